"""Where things are in an image: the step before recognition, which PP-ShiTu calls main-body detection.

A detector is another network, of PaddleDetection, PaddleX or the YOLO family, whose files are checked like those of
networks for features. It returns boxes; the content of each is recognised like an image of its own.
"""
