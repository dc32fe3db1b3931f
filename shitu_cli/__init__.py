"""From a folder of labelled pictures to a deployed image-recognition feature extractor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shitu_cli.features.extractor import Extractor

__version__ = "0.1.0"
__all__ = ["Extractor", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import shitu_cli` and `shitu --help` stay fast.
    if name == "Extractor":
        from shitu_cli.features.extractor import Extractor

        return Extractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
