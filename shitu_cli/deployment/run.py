"""Export a checkpoint to a directory: write the files, describe them, prove them, and only then put them in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu_cli import __version__
from shitu_cli.config.dump import arch_block
from shitu_cli.config.parts.transforms import Transform
from shitu_cli.config.places import weights_of
from shitu_cli.config.schema import Config, DatasetConfig
from shitu_cli.data.batch import to_input
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.lists import read_list
from shitu_cli.data.transforms import Normalization
from shitu_cli.deployment.deploy_config import PADDLEX_NAME, deploy_config
from shitu_cli.deployment.drawn import drawn_images
from shitu_cli.deployment.onnx_model import write_onnx_model
from shitu_cli.deployment.prove import prove
from shitu_cli.errors import Command, ConfigError, EnvironmentProblem, ShituError, UsageError
from shitu_cli.features.backends import BF16, FP32, PADDLE, Way
from shitu_cli.features.engine import eval_normalization
from shitu_cli.features.manifest import MANIFEST, Manifest
from shitu_cli.features.selection import fastest
from shitu_cli.files import (
    atomic_dir,
    atomic_write_json,
    atomic_write_text,
    load_with_hash,
    require_own_folder,
    sha256_of,
)
from shitu_cli.model.tracing import load_trained, note_of_training, trained_arch, write_paddle_model

FORMATS = ("pdmodel", "pir", "onnx")
AUTO = "auto"
OURS = frozenset(
    [
        *("inference.pdmodel", "inference.pdiparams", "inference.pdiparams.info"),
        *("inference.json", "inference.onnx", "inference.yml", MANIFEST),
    ]
)
PROOF_IMAGES = 128
RECALL_IMAGES = 512  # where a recall decides: one more or less right is 0.002


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export: `size` (height, width) fixes the input, `feature` is features or backbone.

    `optional` formats may fail. Without `proven`, the files are not run in a new process and not compared.

    `precision` is what the model will be run in: fp32, bf16, or auto, which is bf16 if that is faster and its recall@1
    at most `max_recall_drop` below the trained network's.
    """

    formats: tuple[str, ...] = ("pdmodel", "onnx")
    optional: tuple[str, ...] = ()
    normalize: bool = False
    size: tuple[int, int] | None = None
    feature: str = "features"
    paddlex_name: str = PADDLEX_NAME
    precision: str = FP32
    max_recall_drop: float = 0.005
    proven: bool = True


@dataclass(frozen=True)
class Exported:
    """The result of an export: `rows` of the proof, `remarks` for the user, the `way` to run it and the `reason`."""

    out: Path
    files: dict[str, int]
    rows: list[dict[str, Any]]
    remarks: list[str]
    manifest: Manifest
    way: Way
    reason: str


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in eval mode, with its Arch block and the source of its weights for the manifest.

    `transform_ops` turn an image file into the array that `normalization` is applied to.
    """

    network: paddle.nn.Layer
    arch: dict[str, Any]
    source: dict[str, Any]
    transform_ops: Sequence[Transform]
    normalization: Normalization | None


def export(config: Config, checkpoint: Path, out: Path, options: ExportOptions) -> Exported:
    """Write the network of a checkpoint, prove it, and put `out` in place; after any failure, `out` is unchanged.

    Raises UsageError without weights or if `out` holds other files, ShituError if the proof fails.
    """
    _check(options, out)
    options = with_bf16(options)
    dataset = _dataset(config)
    network, digest = load_with_hash(weights_of(checkpoint), lambda: load_trained(checkpoint, config))
    trained = TrainedNetwork(
        network=network,
        arch=arch_block(trained_arch(checkpoint, config)),
        source={"checkpoint": str(checkpoint), "sha256": digest, **_training(checkpoint)},
        transform_ops=dataset.transform_ops,
        normalization=eval_normalization(config),
    )
    if options.precision == FP32 and not Path(dataset.cls_label_path).is_file():  # as on a machine for deployment
        exported = export_network(trained, *drawn_images(trained.transform_ops), out, options)
        remark = (
            f"the list of the config is not here ({dataset.cls_label_path}): the exported files were compared with the "
            "trained network on drawn images"
        )
        return dataclasses.replace(exported, remarks=[*exported.remarks, remark])
    count = PROOF_IMAGES if options.precision == FP32 else RECALL_IMAGES
    return export_network(trained, *_real_images(dataset, count), out, options)


def export_network(
    trained: TrainedNetwork, images: np.ndarray, labels: np.ndarray, out: Path, options: ExportOptions
) -> Exported:
    """Write a network, prove it on `images` float32 [N, 3, H, W] with labels int64 [N], and put `out` in place.

    Raises the errors of `export`.
    """
    _check(options, out)
    if options.size is not None and images.shape[2:] != options.size:
        height, width = options.size
        raise UsageError(
            f"--size {height}x{width}: the evaluation images are {images.shape[2]}x{images.shape[3]}",
            hint="give the size that the config's transform_ops produce",
        )
    before = {path.name for path in out.iterdir()} if out.is_dir() else set()
    with atomic_dir(out) as folder:
        remarks = _write(trained.network, folder, options)
        text, remark = deploy_config(
            trained.transform_ops, name=options.paddlex_name, normalized_inside=options.normalize
        )
        if text is not None:
            atomic_write_text(folder / "inference.yml", text)
        if options.proven:
            expected = _trained_features(trained.network, images, options)
            rows = prove(folder, images, expected, labels, max_recall_drop=options.max_recall_drop)
            way, reason = choose_way(rows, options.precision)
        else:
            rows, way, reason = [], Way(f"inference.{options.formats[0]}", PADDLE), "nothing was measured"
        manifest = _manifest(trained, options, images, folder, rows, way.precision)
        atomic_write_json(folder / MANIFEST, manifest.to_json())
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    gone = sorted(before - files.keys())
    if gone:
        remarks.append(f"the earlier content of {out} was replaced; no longer there: {', '.join(gone)}")
    return Exported(out, files, rows, [*remarks, remark], manifest, way, reason)


def _check(options: ExportOptions, out: Path) -> None:
    unknown = [name for name in options.formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"--format {unknown[0]}: expected {', '.join(FORMATS)}")
    require_own_folder(out, OURS, "export into a separate directory: --out inference/")


def with_bf16(options: ExportOptions) -> ExportOptions:
    """Return the options with the format that Paddle Inference needs for bfloat16, unless fp32 is wanted.

    Raises EnvironmentProblem if bf16 is wanted on a CPU without it, where it could not be proven.
    """
    if options.precision not in (FP32, BF16, AUTO):
        raise UsageError(f"--precision {options.precision}: expected {FP32}, {BF16} or {AUTO}")
    if options.precision == FP32:
        return options
    missing = Way("inference.json", PADDLE, BF16).missing()
    if missing is None:
        return dataclasses.replace(options, formats=tuple(dict.fromkeys([*options.formats, "pir"])))
    if options.precision == AUTO:
        return options
    raise EnvironmentProblem(
        f"--precision {BF16}: {missing}", hint="leave it out, or export on the machine that will run it"
    )


def choose_way(rows: Sequence[Mapping[str, Any]], precision: str) -> tuple[Way, str]:
    """Return the way to run the model and the reason; raise ShituError if bf16 is wanted but refused."""
    plain = [row for row in rows if row["precision"] == FP32]
    coarse = [row for row in rows if row["precision"] == BF16]
    right = [row for row in coarse if not row["refused"]]
    if precision == BF16 and not right:
        raise ShituError(
            f"--precision {BF16} is refused; nothing was written",
            details=[f"{Way.of(row)}: {row['refused']}" for row in coarse],
            hint=f"leave it out, or try --precision {AUTO}, which takes {BF16} only if it is faster and accurate",
        )
    if precision == FP32:
        return fastest(plain)
    if precision == BF16:
        return fastest(right)
    way, reason = fastest([*plain, *right])
    if not coarse:
        reason += f"; {BF16} is not available: {Way('inference.json', PADDLE, BF16).missing()}"
    elif not right:
        reason += f"; {BF16} is refused: {coarse[0]['refused']}"
    return way, reason


def _dataset(config: Config) -> DatasetConfig:
    """Return the preprocessing of evaluation, over the first existing list of query, gallery and training.

    Lists with two images of a class come first: only there does recall mean something.
    """
    loaders = config.DataLoader
    splits = [split for split in (loaders.query, loaders.gallery, loaders.train) if split is not None]
    if not splits:
        raise ConfigError(
            "the config has no DataLoader block, so nothing says how to prepare images",
            hint=Command("prepare", "./data"),
        )
    listed = [s for s in splits if Path(s.dataset.cls_label_path).is_file()]
    paired = (s for s in listed if _has_pairs(read_list(Path(s.dataset.cls_label_path)).labels))
    lists = next(paired, (listed or splits)[0]).dataset
    return dataclasses.replace(
        splits[0].dataset, image_root=lists.image_root, cls_label_path=lists.cls_label_path, delimiter=lists.delimiter
    )


def _has_pairs(labels: np.ndarray) -> bool:
    labelled = labels[labels >= 0]
    return len(np.unique(labelled)) < len(labelled)


def _write(model: paddle.nn.Layer, folder: Path, options: ExportOptions) -> list[str]:
    """Write the formats; return remarks about optional ones that failed."""
    prefix = folder / "inference"

    def write(form: str) -> None:
        write_paddle_model(
            model, prefix, feature=options.feature, normalize=options.normalize, form=form, size=options.size
        )

    if "pir" in options.formats:
        write("pir")
    if {"pdmodel", "onnx"} & set(options.formats):
        # Both forms share one parameter file: the same names in the same order, so the same bytes.
        write("pdmodel")
    remarks = []
    if "onnx" in options.formats:
        try:
            write_onnx_model(prefix.with_suffix(".pdmodel"), prefix.with_suffix(".onnx"))
        except ShituError as error:
            if "onnx" not in options.optional:
                raise
            prefix.with_suffix(".onnx").unlink(missing_ok=True)
            remarks.append(f"inference.onnx was not written: {error.message}")
    if "pdmodel" not in options.formats:
        prefix.with_suffix(".pdmodel").unlink(missing_ok=True)
        (folder / "inference.pdiparams.info").unlink(missing_ok=True)
        if "pir" not in options.formats:
            prefix.with_suffix(".pdiparams").unlink(missing_ok=True)
    return remarks


def _real_images(dataset_config: DatasetConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of the workspace, whole classes at a time, as network input [N, 3, H, W], and their labels [N]."""
    dataset = RecDataset(dataset_config)
    rng = np.random.default_rng(0)
    classes, sizes = np.unique(dataset.labels[dataset.labels >= 0], return_counts=True)
    shuffled = rng.permutation(len(classes))
    order = classes[shuffled[np.argsort(sizes[shuffled] < 2, kind="stable")]]  # classes of one image last
    chosen: list[int] = []
    per_class = max(4, -(-count // max(1, len(order))))
    for label in order:
        chosen += np.flatnonzero(dataset.labels == label)[:per_class].tolist()
        if len(chosen) >= count:
            break
    loaded = [dataset.load(n, rng) for n in chosen[:count]]
    first = [item for item in loaded if item.shape == loaded[0].shape]
    labels = dataset.labels[[n for n, item in zip(chosen, loaded, strict=False) if item.shape == loaded[0].shape]]
    return to_input(np.stack(first), dataset.normalization), np.asarray(labels)


def _trained_features(model: paddle.nn.Layer, images: np.ndarray, options: ExportOptions) -> np.ndarray:
    """Return the features [N, D] of the network itself, run layer by layer."""
    parts = []
    with paddle.no_grad():
        for start in range(0, len(images), 16):
            parts.append(model(paddle.to_tensor(images[start : start + 16]))[options.feature].numpy())
    features = np.concatenate(parts)
    if options.normalize:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features, np.float32)


def _manifest(
    trained: TrainedNetwork,
    options: ExportOptions,
    images: np.ndarray,
    folder: Path,
    rows: list[dict[str, Any]],
    precision: str,
) -> Manifest:
    network = trained.network
    size = network.backbone.feature_size if options.feature == "backbone" else network.feature_size
    return Manifest(
        feature_size=int(size),
        normalized_inside=options.normalize,
        image_shape=(3, int(images.shape[2]), int(images.shape[3])),
        transform_ops=tuple(trained.transform_ops),
        normalization=trained.normalization,
        feature=options.feature,
        model=trained.arch,
        source=trained.source,
        files={path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name in OURS},
        proof={"rows": rows, "max_recall_drop": options.max_recall_drop},
        precision=precision,
        shitu=__version__,
        paddle=str(paddle.__version__),
    )


def _training(checkpoint: Path) -> dict[str, Any]:
    """Return epoch and metrics of a checkpoint that `shitu train` wrote, nothing for others."""
    note = note_of_training(checkpoint)
    state = note.get("state")
    if not isinstance(state, dict) or "epoch" not in state:
        return {}
    return {"epoch": state["epoch"], "metrics": note.get("metrics", {})}
