"""Write a trained network in Paddle's inference formats."""

from __future__ import annotations

import copy
import dataclasses
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from shitu_cli.config.load import parse_arch
from shitu_cli.config.places import prefix_of
from shitu_cli.config.schema import ArchConfig, Config
from shitu_cli.errors import Command, DataError, EnvironmentProblem, UsageError
from shitu_cli.inputs import read_note
from shitu_cli.model import build_rec_model
from shitu_cli.model.rec_model import RecModel, embed
from shitu_cli.model.weights import load_weights


class _FeatureNet(nn.Layer):
    """Images → features: backbone and neck without the head, which only training needs."""

    def __init__(self, model: nn.Layer, feature: str, normalize: bool) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if feature == "features" else None
        self.normalize = normalize

    @paddle.jit.not_to_static
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        _, features = embed(self.backbone, self.neck, x)
        if self.normalize:
            features = features / paddle.norm(features, axis=1, keepdim=True)
        return features


def write_paddle_model(
    model: nn.Layer,
    prefix: Path,
    *,
    feature: str = "features",
    normalize: bool = False,
    form: str = "pdmodel",
    size: tuple[int, int] | None = None,
) -> None:
    """Write `<prefix>.pdmodel`, `.pdiparams`, `.pdiparams.info` (or `.json`, `.pdiparams` for `form` pir).

    The batch is dynamic; height and width too, unless `size` (height, width) or the network fixes them. The network
    is not changed. Raises EnvironmentProblem if the disk refuses.
    """
    try:
        os.fspath(prefix).encode()
    except UnicodeEncodeError:  # Paddle takes paths as UTF-8 text
        raise EnvironmentProblem(
            f"Paddle cannot write to {prefix.parent.parent}: that name is not valid UTF-8",
            hint="rename the folder, or export elsewhere with --out",
        ) from None
    TracedNetwork(model, feature=feature, normalize=normalize, form=form, size=size).write(prefix)


class TracedNetwork:
    """The graph of a network: traced once, then written any number of times with the network's current weights.

    Tracing takes seconds, writing tenths of a second.
    """

    def __init__(
        self,
        model: nn.Layer,
        *,
        feature: str = "features",
        normalize: bool = False,
        form: str = "pdmodel",
        size: tuple[int, int] | None = None,
    ) -> None:
        self._model, self._form = model, form
        self._source = _deployed(model)
        height, width = size or (model.backbone.input_size,) * 2
        spec = [paddle.static.InputSpec([None, 3, height, width], "float32", "x")]
        net = _FeatureNet(self._source, feature, normalize)
        self._net = paddle.jit.to_static(net, input_spec=spec, full_graph=True)

    def write(self, prefix: Path) -> None:
        """Write the files of `write_paddle_model`; raise EnvironmentProblem if the disk refuses."""
        from paddle.pir_utils import OldIrGuard

        was_training = self._model.training
        if self._source is not self._model:
            self._source.set_state_dict(_deployed(self._model).state_dict())
        self._net.eval()
        try:
            with OldIrGuard() if self._form == "pdmodel" else nullcontext(), _quiet():
                paddle.jit.save(self._net, str(prefix))
        except OSError as error:
            raise EnvironmentProblem(f"cannot write {prefix}: {error.strerror or error}") from None
        finally:
            if was_training:
                self._model.train()
        _require_written(prefix, self._form)


def _deployed(model: nn.Layer) -> nn.Layer:
    """Return the network, or a copy with merged branches if its backbone trains with parallel ones."""
    if not hasattr(model.backbone, "reparameterize"):
        return model
    merged = copy.deepcopy(model)
    merged.reparameterize()
    return merged


def _require_written(prefix: Path, form: str) -> None:
    """Raise EnvironmentProblem for missing or empty files: Paddle's writers do not notice a full disk."""
    suffixes = (".pdmodel", ".pdiparams", ".pdiparams.info") if form == "pdmodel" else (".json", ".pdiparams")
    for suffix in suffixes:
        file = prefix.with_name(prefix.name + suffix)
        if not file.is_file() or not file.stat().st_size:
            raise EnvironmentProblem(
                f"{file} was not written whole",
                hint="the disk may be full: free some space, then run the command again",
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the remarks of the tracer."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def trained_arch(prefix: Path, config: Config) -> ArchConfig:
    """Return the network of the weights at `prefix`, as their checkpoint records it, else that of the config.

    So `-o Arch...` of the training need not be repeated; if it is given now, it decides.
    """
    if any(origin.startswith("-o Arch") for key, origin in config.origins.items() if key.startswith("Arch")):
        return config.Arch
    run = note_of_training(prefix).get("run")
    return parse_arch(run["arch"]) if isinstance(run, dict) and "arch" in run else config.Arch


def note_of_training(prefix: Path) -> dict[str, Any]:
    """Return what `shitu train` noted beside the weights at `prefix` (with or without .pdparams); {} for others."""
    return read_note(Path(f"{prefix_of(prefix)}.pdstates"))


def without_pretrained(arch: ArchConfig) -> ArchConfig:
    """Return the network as it is built when a checkpoint provides its weights."""
    return dataclasses.replace(arch, backbone=dataclasses.replace(arch.backbone, pretrained=False))


def load_trained(prefix: Path, config: Config, *, whole: bool = False) -> RecModel:
    """Return the trained network with the weights at `prefix` (with or without .pdparams), in eval mode.

    A head with another number of classes keeps its initial weights, which features do not depend on, unless the `whole`
    network must fit. Raises UsageError if there are no weights, DataError if they do not fit.
    """
    if not (os.path.isfile(prefix) or os.path.isfile(f"{prefix}.pdparams")):
        has_latest = prefix.with_name("latest.pdparams").is_file()
        hint: list[str | Command] = ["train first: ", Command("train")]
        if has_latest:
            hint = ["training has not reached its first evaluation yet: ", Command("train", "--resume")]
            hint += [", or --model output/latest"]
        raise UsageError(f"no trained weights at {prefix}.pdparams", hint=hint)
    # The published weights that training started from are no longer needed.
    model = build_rec_model(without_pretrained(trained_arch(prefix, config)))
    load_weights(model, prefix, allow_missing_prefixes=() if whole else ("head.",))
    model.eval()
    for name, tensor in model.state_dict().items():
        if not name.startswith("head.") and not bool(paddle.isfinite(tensor).all()):
            raise DataError(
                f"{prefix}.pdparams: {name} holds NaN or infinity",
                hint=["train again with a lower learning rate: ", Command("train", "--lr", "0.01")],
            )
    return model
