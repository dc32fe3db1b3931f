"""`export`: the trained network as files that deploy, proven equal to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.steps.models import readable
from shitu_cli.steps.settings import with_lists

if TYPE_CHECKING:
    from shitu_cli.deployment.run import Exported


def export(
    config: Config,
    out: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = (),
    normalize: bool = False,
    size: tuple[int, int] | None = None,
    precision: str = "fp32",
    max_recall_drop: float = 0.005,
    paddlex_name: str | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write the network for deployment, run the files on real images, and compare them with it.

    Args:
        config: What `load_config` has read.
        out: Where to; by default the config's Global.save_inference_dir.
        checkpoint: The weights; by default the best checkpoint.
        formats: `pdmodel`, `pir` (inference.json), `onnx`; by default pdmodel, and onnx where it is possible.
        normalize: The exported network returns features of length one.
        size: Fix the input's height and width.
        precision: What the model is run in later: `fp32`, `bf16`, or `auto` for the faster one.
        max_recall_drop: The loss of recall@1 up to which bf16 is accepted.
        paddlex_name: The model's name in inference.yml.
        reporter: Hears what happens; by default nobody does.

    Whatever fails leaves what was there. Raises UsageError without weights, ShituError when the proof fails.
    """
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")
    from shitu_cli.deployment.deploy_config import PADDLEX_NAME
    from shitu_cli.deployment.run import ExportOptions
    from shitu_cli.deployment.run import export as run

    config = with_lists(config)
    places = Places.of(config)
    options = ExportOptions(
        formats=tuple(formats or ("pdmodel", "onnx")),
        optional=() if formats else ("onnx",),
        normalize=normalize,
        size=size,
        feature=config.Global.retrieval_feature_from,
        paddlex_name=paddlex_name or PADDLEX_NAME,
        precision=precision,
        max_recall_drop=max_recall_drop,
    )
    weights = readable(Path(checkpoint) if checkpoint is not None else places.best, reporter or SilentReporter())
    # A path given by the user counts from where the user is, the default from the workspace.
    return run(config, weights, Path(out if out is not None else places.inference).resolve(), options)
