"""Networks, heads and losses. `build_rec_model(arch)` makes a network from the Arch block of a config.

Nothing here imports paddle before it is used, so that `runtime.setup_paddle` comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shitu_cli.model.rec_model import RecModel, build_rec_model

__all__ = ["RecModel", "build_rec_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from shitu_cli.model import rec_model

        return getattr(rec_model, name)
    raise AttributeError(name)
