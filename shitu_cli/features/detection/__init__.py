"""Where things are in an image: the step before recognition, which PP-ShiTu calls main-body detection.

A detector is another network, of PaddleDetection, PaddleX or the YOLO family, whose files are looked into as those of
features are. It gives boxes; what is inside of them is recognised like a separate image.
"""
