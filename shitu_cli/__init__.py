"""From a folder of labelled images to a deployed image-recognition feature extractor.

    from shitu_cli import Extractor, evaluate, export, load_config, open_index, prepare, train

    prepared = prepare("photos", workspace="work")
    config = load_config(prepared.config, ["Global.epochs=30"])
    train(config)
    print(evaluate(config).metrics["recall@1"])
    extractor = Extractor(export(config).out)
    features = extractor.extract(["new.jpg"])

Each step is a function over a config; `docs/python.md` shows the whole chain. Errors are `ShituError`s.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shitu_cli.config.load import load_config
    from shitu_cli.errors import ShituError
    from shitu_cli.features.detection.detector import Detector
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.index import open_index
    from shitu_cli.index.searcher import Searcher
    from shitu_cli.steps.classifier import evaluate_classifier
    from shitu_cli.steps.evaluate import evaluate
    from shitu_cli.steps.export import export
    from shitu_cli.steps.prepare import prepare
    from shitu_cli.steps.train import train

__version__ = "0.1.0"
MAX_PIXELS = 178_956_970  # of an image, the limit from which Pillow refuses: half a gigabyte of 24-bit pixels
# OpenCV reads it when it is imported; it backs up our own look at the header (shitu_cli/data/header.py).
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

__all__ = [
    "Detector",
    "Extractor",
    "Searcher",
    "ShituError",
    "__version__",
    "evaluate",
    "evaluate_classifier",
    "export",
    "load_config",
    "open_index",
    "prepare",
    "train",
]

_MODULE_OF = {
    "Detector": "features.detection.detector",
    "Extractor": "features.extractor",
    "Searcher": "index.searcher",
    "ShituError": "errors",
    "evaluate": "steps.evaluate",
    "evaluate_classifier": "steps.classifier",
    "export": "steps.export",
    "load_config": "config.load",
    "open_index": "index",
    "prepare": "steps.prepare",
    "train": "steps.train",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import shitu_cli` and `shitu --help` stay fast.
    if name in _MODULE_OF:
        return getattr(import_module(f"shitu_cli.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
