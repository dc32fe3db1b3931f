"""Which engine a path means: an exported directory or file, an ONNX file, or a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shitu_cli.config.schema import Config
from shitu_cli.errors import DataError, UsageError
from shitu_cli.infer.engine import (
    Engine,
    engine_from_checkpoint,
    eval_normalization,
    onnx_session,
    paddle_predictor,
)
from shitu_cli.infer.manifest import MANIFEST, Manifest, read_manifest
from shitu_cli.model.runtime import setup_paddle
from shitu_cli.workspace import sha256_of

KNOWN_NAMES = ("best_model", "latest")  # of checkpoints; what is missing there is training


def load_engine(path: Path, config: Config | None = None, *, threads: int | None = None) -> Engine:
    """The engine of `path`; a checkpoint and a model without manifest need the config they were trained with.

    Raises UsageError when nothing is there, DataError when it is damaged.
    """
    path = Path(path)
    if not any(Path(f"{path}{suffix}").exists() for suffix in ("", ".pdparams")) and path.name not in KNOWN_NAMES:
        raise UsageError(f"no such model: {path}", hint="name an exported directory, an .onnx file or a checkpoint")
    if path.is_dir():
        return _exported(_model_file(path), config, threads)
    if path.suffix in (".onnx", ".pdmodel", ".json") and path.is_file():
        return _exported(path, config, threads)
    if config is None:
        raise UsageError(f"{path}: neither an exported model nor a checkpoint of this workspace")
    if "paddle" not in sys.modules:
        setup_paddle("cpu", threads)  # before anything else imports Paddle: it is quiet then
    return engine_from_checkpoint(path.with_suffix("") if path.suffix == ".pdparams" else path, config)


def _model_file(folder: Path) -> Path:
    """The file that ran fastest when the model was exported, else the first that is there."""
    there = [name for name in ("inference.pdmodel", "inference.json", "inference.onnx") if (folder / name).is_file()]
    if not there:
        raise DataError(f"{folder} holds no inference.pdmodel, .json or .onnx", hint="shitu export --out inference/")
    if (folder / MANIFEST).is_file():
        rows = [row for row in read_manifest(folder).proof.get("rows", []) if row.get("file") in there]
        if rows:
            return folder / fastest(rows)[0]
    return folder / there[0]


def fastest(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Of a proof's rows, the file with the least time per picture in batches of 32 on all threads, and the reason."""

    def time_of(row: Mapping[str, Any]) -> float:
        timings = [ms[0] for how, ms in row["latency_ms"].items() if how.startswith("batch 32")]
        return float(timings[-1])

    best = min(rows, key=time_of)
    others = ", ".join(f"{row['file']} {time_of(row):.2f}" for row in rows if row is not best)
    reason = f"{time_of(best):.2f} ms per picture in batches of 32" + (f" ({others})" if others else "")
    return str(best["file"]), reason


def _exported(file: Path, config: Config | None, threads: int | None) -> Engine:
    manifest = read_manifest(file.parent) if (file.parent / MANIFEST).is_file() else None
    if manifest is not None:
        normalization = manifest.normalization
        _check_hashes(file, manifest)
    elif config is not None:
        normalization = eval_normalization(config)
    else:
        raise DataError(
            f"{file.parent} has no {MANIFEST}, so its preprocessing is not known",
            hint="export it with this program: shitu export --out inference/",
        )
    onnx = file.suffix == ".onnx"
    run = onnx_session(file, threads=threads) if onnx else paddle_predictor(file, threads=threads)
    name = "ONNX Runtime" if onnx else "Paddle Inference with oneDNN"
    if manifest is not None:
        fingerprint = f"{manifest.source.get('sha256')}/{manifest.feature}"
        return Engine(run, manifest.feature_size, normalization, name, fingerprint)
    weights = sha256_of(file if onnx else file.with_suffix(".pdiparams"))
    return Engine(run, _probe(run, config), normalization, name, f"{weights}/features")


def _probe(run: object, config: Config | None) -> int:
    import numpy as np

    _, height, width = config.Global.image_shape if config is not None else (3, 224, 224)
    return int(run(np.zeros((1, 3, height, width), np.float32)).shape[1])  # type: ignore[operator]


def _check_hashes(file: Path, manifest: Manifest) -> None:
    for name in (file.name, *(() if file.suffix == ".onnx" else (file.with_suffix(".pdiparams").name,))):
        expected = manifest.files.get(name)
        if not (file.parent / name).is_file():
            raise DataError(f"{file.parent / name} is missing", hint="export again: shitu export --out inference/")
        if expected is not None and sha256_of(file.parent / name) != expected:
            raise DataError(
                f"{file.parent / name} is not the file that was exported (its hash differs from {MANIFEST})",
                hint="export again: shitu export --out inference/",
            )
