"""Read the losses and scores of a workspace's runs from their last checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu_cli.training.checkpoint import LATEST, read_header
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.options import is_meaningful
from shitu_cli.workspace import EARLIER, earlier_models


@dataclass(frozen=True)
class RunHistory:
    """One run; `name` is the directory of its weights below the workspace's output, "" for the newest.

    `losses` are means per epoch, `scores` (epoch, recall@1) of its meaningful online evaluations, epochs counted
    from 1; `network` and `epochs` are what it was started with.
    """

    name: str
    network: str
    epochs: int
    losses: list[float]
    scores: list[tuple[int, float]]


def read_histories(output: Path) -> list[RunHistory]:
    """Return the runs below `output` that have saved anything, oldest first; checkpoints of others are skipped."""
    folders = [*earlier_models(output), output]
    histories = [_read(folder, "" if folder == output else f"{EARLIER}/{folder.name}") for folder in folders]
    return [history for history in histories if history is not None]


def _read(folder: Path, name: str) -> RunHistory | None:
    header = read_header(folder / LATEST)
    if header is None:
        return None
    try:
        state = LoopState.from_json(header["state"])
    except ValueError:
        return None
    config = header["run"].get("config", {})
    epochs = config.get("Global.epochs")
    return RunHistory(
        name=name,
        network=_network(header["run"]),
        epochs=epochs if isinstance(epochs, int) else state.epoch,
        losses=[float(value) for value in state.epoch_losses],
        scores=[
            (int(item["epoch"]), float(item["recall@1"]))
            for item in state.evaluations
            if "recall@1" in item and math.isfinite(item.get("epoch", math.nan)) and is_meaningful(item)
        ],
    )


def _network(run: Mapping[str, Any]) -> str:
    try:
        return str(run["arch"]["Backbone"]["name"])
    except (KeyError, TypeError):  # a checkpoint of another program
        return ""
