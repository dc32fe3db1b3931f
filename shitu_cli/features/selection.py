"""Choose the engine for a path (an exported directory or file, an ONNX file, a checkpoint) and the way to run it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.config.parts.transforms import Transform
from shitu_cli.config.places import prefix_of
from shitu_cli.data.transforms import build_transforms
from shitu_cli.errors import Command, DataError, EnvironmentProblem, Message, UsageError
from shitu_cli.features.backends import (
    EXPORT_AGAIN,
    FP32,
    MODEL_FILES,
    PADDLE,
    PRECISIONS,
    Run,
    Way,
    is_exported,
    ways_of,
)
from shitu_cli.features.deploy_file import NAME, read_deploy_file
from shitu_cli.features.engine import Engine, engine_from_checkpoint, features_fingerprint, fingerprint_of
from shitu_cli.features.manifest import MANIFEST, Manifest, read_manifest
from shitu_cli.files import sha256_of
from shitu_cli.runtime.setup import setup_paddle

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config

KNOWN_NAMES = ("best_model", "latest")  # of checkpoints; what is missing there is training
BATCH = 32
SMALL_BATCH = 5  # up to this size, what was measured with one image says more than what was with 32


@dataclass(frozen=True)
class Request:
    """How an engine is to run.

    `precision` fp32 or bf16; None: what the model was exported for. Of the ways to run it, the one that was fastest
    for about `batch_size` images at once; if `images` says how few there will be in all, opening it counts too. `gpu`
    is the number of a card, None for the CPU, where `threads` None means all cores.
    """

    threads: int | None = None
    precision: str | None = None
    batch_size: int = BATCH
    images: int | None = None
    gpu: int | None = None


def load_engine(path: Path, config: Config | None = None, request: Request = Request()) -> Engine:
    """Return the engine of `path`; a checkpoint and a model without manifest need the config of their training.

    Raises UsageError when nothing is there, DataError when it is damaged, EnvironmentProblem when the machine cannot
    run it so.
    """
    path = Path(path)
    if request.gpu is not None:
        setup_paddle(f"gpu:{request.gpu}")  # refuses a card that is not there; Paddle Inference would take the CPU
    if request.precision not in (None, *PRECISIONS):
        raise UsageError(f"precision {request.precision}: expected {' or '.join(PRECISIONS)}")
    if not any(Path(f"{path}{suffix}").exists() for suffix in ("", ".pdparams")) and path.name not in KNOWN_NAMES:
        raise UsageError(f"no such model: {path}", hint="name an exported directory, an .onnx file or a checkpoint")
    if is_exported(path) and path.exists():
        files = [path] if path.is_file() else [path / name for name in MODEL_FILES if (path / name).is_file()]
        if not files:
            inside = next((path / name for name in KNOWN_NAMES if (path / f"{name}.pdparams").is_file()), None)
            hint: Message = EXPORT_AGAIN if inside is None else f"it holds checkpoints: name one, such as {inside}"
            if (path / "vector.index").is_file():
                hint = f"it is an index, not a model: name it with --index {path}"
            raise DataError(f"{path} holds no inference.pdmodel, .json or .onnx", hint=hint)
        if (files[0].parent / MANIFEST).is_file():
            return _exported(files, request)
        ops = preprocessing_of(path, config)
        if ops is None:
            raise DataError(
                f"{files[0].parent} has neither {MANIFEST} nor {NAME}, so its preprocessing is not known",
                hint=["export it with this program: ", Command("export", "--out", "inference/")],
            )
        return _foreign(files, ops, request)
    if config is None:
        raise UsageError(
            f"{path}: neither an exported model nor a checkpoint with its config",
            hint="name an exported directory or an .onnx file; a checkpoint needs its workspace (-w), from Python "
            "config=load_config('work/shitu.yaml')",
        )
    if "paddle" not in sys.modules:
        # Before anything else imports Paddle: it is quiet then.
        setup_paddle("cpu", request.threads)
    return engine_from_checkpoint(prefix_of(path), config, precision=request.precision or FP32)


def without_manifest(path: Path) -> Message | None:
    """Return the warning that a model without manifest gets its preprocessing from a config; None for other models."""
    folder = path if path.is_dir() else path.parent
    if not is_exported(path) or (folder / MANIFEST).is_file():
        return None
    if (folder / NAME).is_file():
        return f"{folder} has no {MANIFEST}: its images are prepared as its {NAME} says, which was never verified"
    return [
        f"{folder} has no {MANIFEST}: it is treated as another program's model, and its images are prepared as the "
        "config says, which was never verified (",
        Command("export", "--out", "inference/"),
        " writes a verified model)",
    ]


def _exported(files: Sequence[Path], request: Request) -> Engine:
    """Return the engine of what `shitu export` has written and measured."""
    folder = files[0].parent
    manifest = read_manifest(folder)
    if request.gpu is None:
        way, reason = _measured_way(files, manifest, request)
    else:
        way, reason = _way_on_gpu(files, request.precision), "on a GPU"
    _check_hashes(folder / way.file, manifest)
    run = way.open(folder, threads=request.threads, gpu=request.gpu)
    fingerprint = fingerprint_of(str(manifest.source.get("sha256")), manifest.feature, way.precision)
    return Engine(
        run,
        manifest.feature_size,
        manifest.normalization,
        str(way),
        fingerprint,
        reason,
        side_by_side=way.side_by_side and request.gpu is None,
    )


def preprocessing_of(path: Path, config: Config | None) -> tuple[Transform, ...] | None:
    """Return how to prepare images for a model: as the files beside it say, else as the config does, None without."""
    ops = own_preprocessing(path)
    if ops is None and config is not None and (split := config.DataLoader.as_deployed) is not None:
        return tuple(split.dataset.transform_ops)
    return ops


def own_preprocessing(path: Path) -> tuple[Transform, ...] | None:
    """Return how the files beside an exported model say that images are prepared for it.

    None for a checkpoint, and for a model of another program that does not say it.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / MANIFEST).is_file() and path.suffix != ".pdparams":
        return read_manifest(folder).transform_ops
    return read_deploy_file(folder) if is_exported(path) else None


def prepared_for(config: Config, model: Path) -> tuple[Config, bool]:
    """Return the config with query and gallery images prepared as an exported model says, and if that is another way.

    It is unchanged for a checkpoint, and for a model that does not say it.
    """
    ops = own_preprocessing(model)
    names = ("query", "gallery")
    parts = [part for name, part in config.DataLoader.splits.items() if name in names]
    ways = {features_fingerprint("", part.dataset.transform_ops) for part in parts}
    if ops is None or ways <= {features_fingerprint("", ops)}:
        return config, False
    loaders = config.DataLoader.with_datasets(lambda part: dataclasses.replace(part, transform_ops=ops), names)
    return dataclasses.replace(config, DataLoader=loaders), True


def _foreign(files: Sequence[Path], ops: Sequence[Transform], request: Request) -> Engine:
    """Return the engine of another program's model, which has no manifest, with the preprocessing `ops`."""
    way = _unmeasured_way(files, request.precision) if request.gpu is None else _way_on_gpu(files, request.precision)
    file = files[0].parent / way.file
    run = way.open(file.parent, threads=request.threads, gpu=request.gpu)
    weights = sha256_of(file if file.suffix == ".onnx" else file.with_suffix(".pdiparams"))
    fingerprint = fingerprint_of(weights, "features", way.precision)
    transform = build_transforms(ops)
    alone = way.side_by_side and request.gpu is None
    return Engine(run, _probe(run, transform), transform.normalize, str(way), fingerprint, side_by_side=alone)


def _measured_way(files: Sequence[Path], manifest: Manifest, request: Request) -> tuple[Way, str]:
    """Return the fastest of the ways that the proof of the export accepted, and why."""
    names = {file.name for file in files}
    folder = files[0].parent
    rows = [row for row in manifest.proof.get("rows", []) if row.get("file") in names]
    if not rows:  # a file that came later
        return _unmeasured_way(files, request.precision), ""
    # One file named of several may not be able to do what the others were exported for.
    can = manifest.precision in {Way.of(row).precision for row in rows}
    wanted = request.precision or (manifest.precision if can else FP32)
    measured = [row for row in rows if Way.of(row).precision == wanted]
    if not measured:
        raise UsageError(
            f"{folder} was not exported for {wanted}",
            hint=[Command("export", "--precision", wanted), " measures and allows it"],
        )
    right = [row for row in measured if not row.get("refused")]
    if not right:
        raise DataError(
            f"{folder} in {wanted} was measured when it was exported and refused: {measured[0]['refused']}",
            hint=[
                "--precision fp32; or allow it: ",
                Command("export", "--precision", wanted, "--max-recall-drop", "0.02"),
            ],
        )
    here = [row for row in right if Way.of(row).missing() is None]
    if not here:
        way = Way.of(right[0])
        raise EnvironmentProblem(
            f"{folder} needs {way}, which cannot be used here: {way.missing()}",
            hint=["export again here: ", Command("export", "--precision", "fp32")],
        )
    return fastest(here, request.batch_size, request.images)


def fastest(rows: Sequence[Mapping[str, Any]], batch_size: int = BATCH, images: int | None = None) -> tuple[Way, str]:
    """Return the way with the least time per image on all threads among a proof's rows, and the reason.

    If the number of `images` is known, the time to open a way counts too: for one image it is nearly everything.
    """
    measured = 1 if batch_size <= SMALL_BATCH else BATCH

    def time_of(row: Mapping[str, Any]) -> float:
        timings = [ms[0] for how, ms in row["latency_ms"].items() if how.startswith(f"batch {measured},")]
        return float(timings[-1])

    def total_of(row: Mapping[str, Any]) -> float:
        return time_of(row) * images + row["open_ms"] if images is not None else time_of(row)

    if any("open_ms" not in row for row in rows):  # exported before this was measured
        images = None
    best = min(rows, key=total_of)
    others = ", ".join(f"{_described(row)} {time_of(row):.2f}" for row in rows if row is not best)
    how = "alone" if measured == 1 else f"in batches of {measured}"
    opens = f", opens in {best['open_ms']:.0f} ms" if images is not None else ""
    return Way.of(best), f"{time_of(best):.2f} ms per image {how}{opens}" + (f" ({others})" if others else "")


def _described(row: Mapping[str, Any]) -> str:
    way = Way.of(row)
    return f"{way} {way.file}"


def _unmeasured_way(files: Sequence[Path], precision: str | None) -> Way:
    """Return the first way that this machine has, without a proof to choose by."""
    precision = precision or FP32
    ways = [way for file in files for way in ways_of(file) if way.precision == precision]
    if not ways:
        raise UsageError(
            f"{files[0]} cannot be run in {precision}",
            hint=["inference.json and ONNX files can: ", Command("export", "--help")],
        )
    here = [way for way in ways if way.missing() is None]
    if not here:
        raise EnvironmentProblem(f"{files[0]} in {precision}: {ways[0].missing()}")
    return here[0]


def _way_on_gpu(files: Sequence[Path], precision: str | None) -> Way:
    ways = [way for file in files for way in ways_of(file) if way.program == PADDLE and way.precision == FP32]
    if precision not in (None, FP32) or not ways:
        raise UsageError(
            f"{files[0].parent}: a GPU can run only inference.pdmodel or .json, and only in fp32",
            hint="run it on the CPU: --devices cpu:2",
        )
    return ways[0]


def _probe(run: Run, transform: Callable[..., np.ndarray]) -> int:
    """Return the size of the features of a grey image."""
    image = transform(np.full((256, 256, 3), 127, np.uint8), np.random.default_rng(0))
    sides = image.shape[:2] if image.dtype == np.uint8 else image.shape[1:]
    return int(run(np.zeros((1, 3, *sides), np.float32)).shape[1])


def _check_hashes(file: Path, manifest: Manifest) -> None:
    for name in (file.name, *(() if file.suffix == ".onnx" else (file.with_suffix(".pdiparams").name,))):
        expected = manifest.files.get(name)
        if not (file.parent / name).is_file():
            raise DataError(f"{file.parent / name} is missing", hint=EXPORT_AGAIN)
        if expected is not None and sha256_of(file.parent / name) != expected:
            raise DataError(
                f"{file.parent / name} is not the file that was exported (its hash differs from {MANIFEST})",
                hint=EXPORT_AGAIN,
            )
