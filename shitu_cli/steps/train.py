"""`train`: from the prepared lists to trained weights, in this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.config.places import Places
from shitu_cli.config.schema import Config
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.steps.settings import with_lists

if TYPE_CHECKING:
    from shitu_cli.training.frozen import FrozenResult
    from shitu_cli.training.options import TrainResult


def train(
    config: Config,
    *,
    resume: bool = False,
    init_from: str | os.PathLike[str] | None = None,
    save_every_steps: int | None = None,
    keep: int | None = None,
    keep_earlier: int | None = None,
    reporter: Reporter | None = None,
) -> TrainResult | None:
    """Train a network as the config says, into its output directory: `latest.*`, `best_model.*`, `train.log`.

    Args:
        config: What `load_config` has read; overrides and the device are set there.
        resume: Continue where the last run of this output directory stopped, to the same bits.
        init_from: Start from these weights; their head may be of other classes.
        save_every_steps: Save inside epochs too, every so many steps.
        keep: How many saves to keep under `checkpoints/`; one by default.
        keep_earlier: How many models of earlier runs to keep under `earlier/`; all by default.
        reporter: Hears what happens; by default nobody does.

    Returns the losses, scores and times of the run; None on the other processes where the command line has started
    several. Ctrl-C saves and returns a result that says `interrupted`. Raises ConfigError, DataError or UsageError
    before the first step for what cannot be trained, TrainingError when the loss is no longer finite.
    """
    from shitu_cli.processes import launch
    from shitu_cli.runtime.setup import setup_paddle

    config = with_lists(config, ("train", "query", "gallery"))
    speaks = reporter if reporter is not None and launch.is_main() else SilentReporter()
    chosen = setup_paddle(launch.own_device(config.Global.device))
    from shitu_cli.processes.collectives import join
    from shitu_cli.training.options import TrainOptions
    from shitu_cli.training.run import run_training

    return run_training(
        config,
        device=chosen,
        ranks=join(),
        reporter=speaks,
        options=TrainOptions(save_every_steps=save_every_steps, keep=keep, keep_earlier=keep_earlier),
        resume=resume,
        init_from=None if init_from is None else Path(init_from),
        lock=Places.of(config).workspace.lock,
    )


def train_frozen(
    config: Config,
    *,
    init_from: str | os.PathLike[str] | None = None,
    keep: int | None = None,
    keep_earlier: int | None = None,
    views: int = 4,
    reporter: Reporter | None = None,
) -> FrozenResult:
    """Learn a projection of a trained network's features, which stay as they are, and write it in as the neck.

    Args:
        config: As for `train`; its backbone names trained weights, its neck and head are replaced.
        init_from: Start from these weights instead.
        keep: How many saves to keep under `checkpoints/`; one by default.
        keep_earlier: How many models of earlier runs to keep under `earlier/`; all by default.
        views: How often each image is looked at; from the second on it is cropped and mirrored at random.
        reporter: Hears what happens; by default nobody does.

    Returns the metrics before and after. Raises UsageError when no trained weights are named, DataError when lists,
    images or weights do not fit.
    """
    from shitu_cli.runtime.setup import setup_paddle

    config, places = with_lists(config, ("train", "query", "gallery")), Places.of(config)
    setup_paddle(config.Global.device)
    from shitu_cli.features.cache import FeatureCache
    from shitu_cli.training.frozen import train_frozen as run
    from shitu_cli.training.options import TrainOptions

    with places.workspace.lock("train"):
        return run(
            config,
            reporter=reporter or SilentReporter(),
            cache=FeatureCache(places.cache / "features"),
            options=TrainOptions(keep=keep, keep_earlier=keep_earlier),
            init_from=None if init_from is None else Path(init_from),
            views=views,
        )
