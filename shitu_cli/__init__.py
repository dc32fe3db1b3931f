"""shitu: from a folder of labelled pictures to a deployed image-recognition feature extractor."""

__version__ = "0.1.0"
