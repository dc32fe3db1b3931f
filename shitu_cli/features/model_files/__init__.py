"""Looking into model files before a library loads them: only networks that compute are let through.

A model file is a program. Paddle's can hold operators that write files, run Python or loop for ever, ONNX files can
name other files to read, and the libraries trust sizes and references in all of them. Each format is read into one
`Program`, which one set of rules then judges.
"""

from shitu_cli.features.model_files.check import check_model_files
from shitu_cli.features.model_files.operators import DETECTION, FEATURES, Kind

__all__ = ["DETECTION", "FEATURES", "Kind", "check_model_files"]
