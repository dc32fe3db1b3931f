"""Choose the model that a command uses: the one that is named, the exported one, or the best checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli.config.dump import config_values
from shitu_cli.config.places import Places, prefix_of, weights_of
from shitu_cli.errors import Command, DataError, ShituError, UsageError
from shitu_cli.features.backends import MODEL_FILES
from shitu_cli.features.engine import features_fingerprint, fingerprint_of
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.manifest import read_manifest
from shitu_cli.features.selection import BATCH, without_manifest
from shitu_cli.files import sha256_of
from shitu_cli.inputs import StrPath, read_note
from shitu_cli.processes import this_process
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.runtime.setup import setup_paddle

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config


def open_extractor(
    config: Config | None = None,
    model: Path | None = None,
    *,
    precision: str | None = None,
    batch_size: int = BATCH,
    images: int | None = None,
    reporter: Reporter | None = None,
) -> Extractor:
    """Return the extractor of `model`, else of the config's exported model, else of its best checkpoint.

    It runs on this process's device with `batch_size` images at once, on the engine that is fastest for that and for
    `images` in all, if their number is known.
    Raises UsageError when there is neither model nor checkpoint, DataError for an export without its manifest.
    """
    reporter = reporter or SilentReporter()
    device = this_process.own_device("cpu")
    gpu = None if device == "cpu" else int(device.rpartition(":")[2])

    def opened(path: Path, config: Config | None = None) -> Extractor:
        return Extractor(path, config=config, precision=precision, batch_size=batch_size, images=images, gpu=gpu)

    if model is not None:
        extractor = opened(model, config)
        if remark := without_manifest(model):
            reporter.warn(remark)
        return extractor
    if config is None:
        raise UsageError("no model is named, and there is no workspace that has one", hint="name it with --model")
    places = Places.of(config)
    if exported := exported_model(places, reporter):
        return opened(exported)
    if any((places.inference / name).is_file() for name in MODEL_FILES):
        raise DataError(
            f"{places.inference} holds a model, but no manifest.json that says how its images are prepared",
            hint=["export again: ", Command("export"), "; or name what to use: --model output/best_model"],
        )
    setup_paddle(device)  # a checkpoint loads Paddle, which is quiet only if this comes first
    best = readable(places.best, reporter)
    if not weights_of(best).is_file():
        raise UsageError(
            "there is neither an exported model nor a checkpoint", hint=[Command("train"), ", then ", Command("export")]
        )
    return opened(best, config)


def exported_model(places: Places, reporter: Reporter) -> Path | None:
    """Return the folder of the exported model, with a warning if it is older than the weights; None without one."""
    if not places.manifest.is_file():
        return None
    if export_is_stale(places):
        reporter.warn([f"{places.inference} was exported from older weights: ", Command("export"), " refreshes it"])
    return places.inference


def model_of_index(places: Places | None, model: Path | None, recorded: str, index: str) -> Path | None:
    """Return the model to search an index with: `model`, None for the trained one, else the one it was built with.

    `places` are those of the workspace, None without one. The model may have been copied together with the `index`: one
    of its name beside that will do, as fingerprints are compared. Raises UsageError if it is not on this machine.
    """
    if model is not None or not recorded:
        return model
    if places is not None and (places.manifest.is_file() or places.best_weights.is_file()):
        return None
    copies = [Path(recorded), Path(index).parent / Path(recorded).name]
    choice = next((copy for copy in copies if copy.exists() or weights_of(copy).exists()), None)
    if choice is None:
        raise UsageError(
            f"the model that {index} was built with is not on this machine: {recorded}",
            hint="copy it beside the index, or name it with --model",
        )
    return choice


def place_of(model: StrPath | None) -> Path | None:
    """Return the path of a model that the user names; that of the current directory (`.`) would have no name."""
    path = None if model is None else Path(model)
    return path if path is None or path.name else path.absolute()


def readable(prefix: Path, reporter: Reporter) -> Path:
    """Return where a checkpoint's weights can be read: the checkpoint itself or its intact copy, with a warning."""
    from shitu_cli.training.checkpoint import standing_weights

    weights, remark = standing_weights(prefix)
    if remark:
        reporter.warn(remark)
    return weights


def changed_since_training(prefix: Path, key: str, file: Path | None) -> bool:
    """Return whether `file` is not the one whose hash a checkpoint's run records under `key`.

    False without a record (weights from elsewhere) or without the file.
    """
    from shitu_cli.training.checkpoint import read_header

    header = read_header(prefix)
    then = None if header is None else header.get("run", {}).get(key)
    return bool(then and file is not None and file.is_file() and sha256_of(file) != then)


def changed_preparation(config: Config, prefix: Path) -> str | None:
    """Return for the user how images are prepared otherwise than when a checkpoint was trained, else None."""
    from shitu_cli.training.checkpoint import read_header
    from shitu_cli.training.fingerprint import flatten

    header = read_header(prefix_of(prefix))
    then = {} if header is None else header.get("run", {}).get("config", {})
    changes = (
        f"images are prepared in another way than when this model was trained: {key}: {then[key]} then, {value} now"
        for key, value in flatten(config_values(config)).items()
        if key.startswith("DataLoader.Eval.") and ".transform_ops." in key and then.get(key, value) != value
    )
    return next(changes, None)


def exported_features(places: Places) -> str | None:
    """Return the fingerprint of the exported model's features; None without one, and if its manifest is damaged."""
    try:
        manifest = read_manifest(places.inference)
    except ShituError:
        return None
    engine = fingerprint_of(str(manifest.source.get("sha256")), manifest.feature, manifest.precision)
    return features_fingerprint(engine, manifest.transform_ops)


def export_is_stale(places: Places) -> bool:
    """Return whether the exported model was made from weights other than those of the current best checkpoint."""
    exported = exported_weights(places)  # "" for a damaged manifest, which is reported when the model is used
    return exported != "" and places.best_weights.is_file() and exported != sha256_of(places.best_weights)


def exported_weights(places: Places) -> str:
    """Return the SHA-256 of the weights that the exported model was made from, "" if nothing says it."""
    source = read_note(places.manifest).get("source")
    return str(source.get("sha256", "")) if isinstance(source, dict) else ""
