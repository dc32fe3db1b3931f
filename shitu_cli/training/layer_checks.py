"""Whether the layers of the networks of a run fit together, and fit its images and losses, before anything is trained.

All of it follows from the graphs of the networks (model/shapes.py), which take a moment and no weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shitu_cli.config.distillation import arch_keys
from shitu_cli.config.kinds import fields_of
from shitu_cli.config.parts.losses import PairDistillation, PairLoss
from shitu_cli.config.parts.necks import FPN, Neck
from shitu_cli.config.reader import show
from shitu_cli.config.schema import ArchConfig, Config, DatasetConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import Command, ConfigError
from shitu_cli.model.backbones.base import no_such_layer
from shitu_cli.model.necks import wrong_size
from shitu_cli.model.shapes import BackboneShapes, NeckShape, Shape, backbone_shapes, mapped, neck_shape, require_size
from shitu_cli.reporting import alternatives


@dataclass
class _Problems:
    """What is wrong with keys of a config, and the values that would be right."""

    texts: list[str] = field(default_factory=list)
    right: dict[str, object] = field(default_factory=dict)

    def add(self, key: str, text: str, right: object = None) -> None:
        self.texts.append(f"{key}: {text}")
        if right is not None:
            self.right[key] = right

    def raise_all(self, message: str) -> None:
        """Raise ConfigError with all problems, and a command that settles those with a value that would be right.

        `message` stands above several of them.
        """
        if not self.texts:
            return
        words = [word for key, value in self.right.items() for word in ("-o", f"{key}={value}")]
        first, *others = self.texts
        raise ConfigError(
            first if not others else message,
            details=self.texts if others else (),
            hint=Command("train", *words) if words else None,
        )


@dataclass(frozen=True)
class _Outputs:
    """The shapes of what losses compare, by its name; of the logits, the number of classes."""

    backbone: Shape
    features: Shape
    logits: Shape | None


def shapes_of(config: Config) -> dict[str, BackboneShapes]:
    """Return what leaves the backbones of the networks of a config, by the keys of these, without those unknown."""
    height, width = config.Global.image_shape[1:]
    shapes = {key: backbone_shapes(arch.backbone, (height, width)) for key, arch in arch_keys(config).items()}
    return {key: known for key, known in shapes.items() if known is not None}


def check_layers(config: Config, shapes: Mapping[str, BackboneShapes]) -> None:
    """Raise ConfigError, with all problems, if layers or losses of a run take something else than they would get."""
    problems, outputs = _Problems(), dict[str, _Outputs]()
    for key, arch in arch_keys(config).items():
        if key in shapes:
            outputs[key] = _outputs(problems, key, arch, shapes[key], is_kept=arch is config.Arch)
    if len(outputs) == len(arch_keys(config)):
        _check_outputs(problems, config, outputs)
    problems.raise_all("the layers of the network do not fit together")


def _check_outputs(problems: _Problems, config: Config, outputs: dict[str, _Outputs]) -> None:
    """Report what takes the outputs of networks, which are by their keys, and needs others."""
    kept = next(iter(outputs.values()))
    if config.Global.retrieval_feature_from == "backbone" and len(kept.backbone) > 1:
        text = f"got backbone, which gives {_named(kept.backbone)}, but a feature is a row of values: expected features"
        problems.add("Global.retrieval_feature_from", text, "features")
    for number, loss in enumerate(config.Loss):
        key = f"Loss.Train.{number}.{loss.name}"
        if isinstance(loss, PairLoss):
            _check_size_of_loss(problems, key, loss, kept)
        elif isinstance(loss, PairDistillation):
            by_name = {key.rpartition(".")[2]: output for key, output in outputs.items()}
            _check_pairs(problems, key, loss, by_name)


def check_image_sizes(config: Config, shapes: Mapping[str, BackboneShapes]) -> None:
    """Raise ConfigError if a network is made for images of another size than the transforms of a list give.

    Only where a network has such a size is an image of each list read. Raises DataError if none can be.
    """
    problems = _Problems()
    for key, arch in arch_keys(config).items():
        if key not in shapes or shapes[key].input_size is None:
            continue
        network, seen = "" if key == "Arch" else f" ({key})", set[tuple[int, int]]()
        for place, dataset in _lists(config, evaluated=arch is config.Arch):
            size = RecDataset(dataset).input_size()
            try:
                if size not in seen:
                    require_size(arch.backbone, size)
            except ConfigError as error:
                problems.add(f"{place}.dataset.transform_ops", f"{error.message}{network}: {error.hint}")
            seen.add(size)
    problems.raise_all("the network is made for images of another size")


def _lists(config: Config, *, evaluated: bool) -> Iterator[tuple[str, DatasetConfig]]:
    """Yield the places and the lists of a run that exist, of query and gallery only if they are evaluated."""
    loaders = config.DataLoader
    for place, split in (("Train", loaders.train), ("Eval.Query", loaders.query), ("Eval.Gallery", loaders.gallery)):
        is_used = place == "Train" or (evaluated and config.evaluates)
        if split is not None and is_used and Path(split.dataset.cls_label_path).is_file():
            yield f"DataLoader.{place}", split.dataset


def _outputs(problems: _Problems, key: str, arch: ArchConfig, shapes: BackboneShapes, *, is_kept: bool) -> _Outputs:
    """Return what leaves the parts of the network at `key`, as it would be without the problems that are found."""
    neck = None if arch.neck is None else neck_shape(arch.neck)
    needs_row = is_kept or neck is not None or arch.head is not None
    raw = _raw(problems, key, arch, shapes, neck) if needs_row else shapes.at(arch.stop_layer) or shapes.last
    features = raw
    if arch.neck is not None and neck is not None:
        if neck.takes not in (None, raw[0]):
            right = raw[0] if neck.key in fields_of(type(arch.neck)) else None
            problems.add(f"{key}.Neck.{neck.key}", wrong_size(neck.takes, raw[0]), right)
            neck = neck_shape(_resized(arch.neck, neck, raw[0]))
        if isinstance(arch.neck, FPN) and arch.neck.levels > shapes.levels:
            _add_lack_of_levels(problems, f"{key}.Neck", arch.neck, shapes.levels)
        features = raw if neck.gives is None else (neck.gives,)
    if arch.head is None:
        return _Outputs(raw, features, None)
    taken = features if arch.head_feature_from == "neck" else raw
    if len(taken) > 1:
        text = f"got backbone, which gives {_named(raw)}, but a head needs a row of values: expected neck"
        problems.add(f"{key}.head_feature_from", text, "neck")
        taken = features
    if arch.head.embedding_size != taken[0]:
        problems.add(f"{key}.Head.embedding_size", wrong_size(arch.head.embedding_size, taken[0]), taken[0])
    return _Outputs(raw, features, (arch.head.class_num,))


def _raw(problems: _Problems, key: str, arch: ArchConfig, shapes: BackboneShapes, neck: NeckShape | None) -> Shape:
    """Return what leaves the backbone, as a row of values or, for a neck that takes it, a map."""
    raw, stop = shapes.at(arch.stop_layer), arch.stop_layer
    place, takes_map = f"{key}.BackboneStopLayer.name", neck is not None and neck.takes_map

    def fits(shape: Shape) -> bool:
        if neck is None or arch.neck is None or not takes_map:
            return len(shape) == 1
        return len(shape) == 3 and mapped(_resized(arch.neck, neck, shape[0]), shape) == (neck.gives,)

    if raw is not None and fits(raw):
        return raw
    possible = [name for name, shape in shapes.after.items() if fits(shape)]
    after = arch.head.embedding_size if neck is None and arch.head is not None else None
    wanted = after if neck is None else neck.takes
    best = next((name for name in possible if shapes.after[name][0] == wanted), possible[-1] if possible else None)
    user = "a feature" if arch.neck is None else f"the neck {arch.neck.name}"
    needs = (
        f"{user} {'is' if arch.neck is None else 'needs'} {'a map of one pixel' if takes_map else 'a row of values'}"
    )
    if raw is None:
        problems.add(place, f"{no_such_layer(str(stop), shapes.after)}: expected {alternatives(possible)}", best)
    elif best is not None:
        expected = f"expected {alternatives(possible)}"
        problems.add(place, f"got {_shown(stop)}, which gives {_named(raw)}, but {needs}: {expected}", best)
    else:
        text = f"{needs}, which no layer of {arch.backbone.name} gives"
        problems.add(f"{key}.Neck.name" if arch.neck is not None else f"{key}.Backbone.name", text)
    chosen = shapes.after[best] if best is not None else raw or shapes.last
    return chosen if fits(chosen) else (chosen[0],)


def _resized(part: Neck, neck: NeckShape, size: int) -> Neck:
    """Return a neck that takes `size` values, if its config says how many it takes."""
    changes: dict[str, Any] = {neck.key: size} if neck.key in fields_of(type(part)) else {}
    return dataclasses.replace(part, **changes)


def _add_lack_of_levels(problems: _Problems, key: str, part: FPN, levels: int) -> None:
    if levels < 2:
        problems.add(f"{key}.name", f"got {part.name}, but the backbone has no stages for a pyramid: use FC")
    else:
        problems.add(f"{key}.levels", f"got {part.levels}, the backbone has {levels} stages", levels)


def _check_size_of_loss(problems: _Problems, key: str, part: PairLoss, outputs: _Outputs) -> None:
    """Report a loss that keeps features (centres, memories) of another size than the network returns."""
    name = next((name for name in ("feat_dim", "embedding_size") if hasattr(part, name)), None)
    size = math.prod(getattr(outputs, part.feature_from))
    if name is not None and getattr(part, name) != size:
        text = f"got {getattr(part, name)}, but the output {part.feature_from} of the network has {size} values"
        problems.add(f"{key}.{name}", text, size)


def _check_pairs(problems: _Problems, key: str, part: PairDistillation, outputs: dict[str, _Outputs]) -> None:
    """Report networks whose outputs a loss compares value by value, but which have other sizes."""
    for pair in part.model_name_pairs:
        shapes = [getattr(outputs[name], part.key) for name in pair]
        if shapes[0] != shapes[1]:
            sizes = " and ".join(f"{_named(shape)} of {name}" for name, shape in zip(pair, shapes, strict=True))
            problems.add(key, f"compares the {part.key} of two networks, which must have the same size: {sizes}")


def _named(shape: Shape) -> str:
    """Return a shape in words."""
    if len(shape) == 1:
        return f"a row of {shape[0]} values"
    return f"a map of {shape[1]}x{shape[2]} pixels with {shape[0]} channels" if len(shape) == 3 else f"{list(shape)}"


def _shown(stop_layer: str | None) -> str:
    return "null" if stop_layer is None else show(stop_layer)
