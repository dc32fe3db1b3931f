"""The weights that a run starts from: where they are, a network with them, and the way out where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shitu_cli.config.schema import Config
from shitu_cli.errors import Command, DataError, Message
from shitu_cli.model import RecModel, build_rec_model
from shitu_cli.model.misfit import UnfitWeights, way_to_train
from shitu_cli.model.tracing import without_pretrained
from shitu_cli.model.weights import load_start
from shitu_cli.reporting import Reporter
from shitu_cli.training.start_checks import named_start
from shitu_cli.weights.store import obtain


def start_of(config: Config, init_from: Path | None, reporter: Reporter) -> Path | None:
    """Return the file that the whole network starts from; None if the backbone's entry decides.

    `reporter` shows its download. Raises the errors of `obtain`.
    """
    if init_from is not None:
        return init_from
    named = named_start(config)
    return obtain(named, reporter).path if named else None


def build_started(
    config: Config, start: Path | None, reporter: Reporter, *, may_be_new: Sequence[str] = ()
) -> tuple[RecModel, list[str]]:
    """Build the network of a config with the weights that it starts from; return it with remarks for the user.

    They come from the file `start`, in which parameters with the prefixes of `may_be_new` may be missing or have
    another shape; the weights that the backbone's entry names are not needed then. Without it, they come from these.
    Raises DataError, with the way to train with these weights, if they do not fit.
    """
    with _explained(config):
        if start is None:
            model = build_rec_model(config.Arch, reporter)
            return model, model.backbone.start_remarks
        model = build_rec_model(without_pretrained(config.Arch))
        return model, load_start(model, start, allow_missing_prefixes=may_be_new)


@contextmanager
def _explained(config: Config) -> Iterator[None]:
    """Replace the hint about weights that do not fit by one about training with them."""
    try:
        yield
    except UnfitWeights as problem:
        raise DataError(problem.message, details=problem.details, hint=_way_out(problem, config)) from None


def _way_out(problem: UnfitWeights, config: Config) -> Message | None:
    misfit = problem.misfit
    if config.Distillation is not None:  # its networks have other keys
        return problem.advice
    if misfit.parts:
        words = ["-o", "Global.pretrained_model=null"] if config.Global.pretrained_model else []
        alone = Command("train", "--pretrained", problem.source, *words, without=("--init-from",))
        return ["to start from the backbone alone: ", alone]
    return way_to_train(misfit.network) if misfit.network else problem.advice
