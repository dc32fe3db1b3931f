"""`shitu extract`: feature vectors of any pictures, to a file."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.errors import DataError, EnvironmentProblem, TrainingError, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.features.feature_file import Written
    from shitu_cli.preparation.sources import Pictures

BATCH = 32


def register(app: typer.Typer) -> None:
    app.command("extract")(extract)


def extract(
    sources: Annotated[
        list[str], typer.Argument(help="Pictures, folders (label: the folder a picture lies in), lists or patterns.")
    ],
    out: Annotated[Path, typer.Option(help="features.npy (with .tsv of paths), .npz, .jsonl or .parquet.")] = Path(
        "features.npy"
    ),
    model: Annotated[
        Path | None, typer.Option(help="Exported directory, ONNX file or checkpoint; default: inference/.")
    ] = None,
    precision: options.PrecisionOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep the features' length instead of making it one.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per call of the network.")] = BATCH,
    devices: options.DevicesOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when a picture cannot be read.")] = False,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compute the feature vector of every picture; an interrupted run goes on where it stopped."""
    from shitu_cli.cli import console
    from shitu_cli.features.feature_file import check_out, extract_to_file
    from shitu_cli.preparation.sources import find_pictures
    from shitu_cli.processes import launch

    console.configure(as_json=as_json)
    if out.resolve() in {Path(source).resolve() for source in sources}:
        raise UsageError(f"{out} is one of the sources", hint="--out features.npy")
    check_out(out)
    pictures = find_pictures(sources, lambda path: own_image_root(workspace, path))
    launched = _launch(devices)
    extractor = open_extractor(workspace, model, precision=precision, batch_size=batch_size)
    if launch.is_child() and launch.world() > 1:
        _compute_share(extractor, pictures, out, normalize=not raw)
        return
    if not launched:
        console.reporter().info(_told(extractor, pictures))
    written = extract_to_file(extractor, pictures, out, console.reporter(), normalize=not raw)
    if as_json:
        console.print_json(
            {"out": [str(f) for f in written.files], "pictures": written.count, "skipped": written.skipped}
        )
    _show(written, len(pictures), out, strict=strict)
    named = "" if model is None else f" --model {shlex.quote(str(model))}"
    console.next_step(f"shitu index build --features {shlex.quote(str(out))}{named}")


def _show(written: Written, total: int, out: Path, *, strict: bool) -> None:
    """What was written and left out; DataError for the latter when `strict`."""
    from shitu_cli.cli import console

    reporter = console.reporter()
    if written.skipped:
        lines = [f"{path}: {why}" for path, why in list(written.skipped.items())[:20]]
        message = f"{len(written.skipped)} of {counted(total, 'picture')} could not be read and are not in {out}"
        if strict:
            raise DataError(message, details=lines)
        reporter.warn(message + "".join(f"\n  {line}" for line in lines))
    reporter.info(f"{counted(written.count, 'vector')} in {', '.join(str(f) for f in written.files)}")


def _told(extractor: Extractor, pictures: Pictures) -> str:
    return f"{pictures.described()}; {extractor.feature_size} values each, by {extractor.engine.told()}"


def _launch(devices: str | None) -> bool:
    """Run this command in several processes, each for its share of the pictures; False when there is just this one."""
    from shitu_cli.processes import launch

    try:
        with tempfile.TemporaryDirectory(prefix="shitu-") as logs:
            return launch.launch(devices, nnodes=1, node_rank=0, master=None, output=Path(logs))
    except TrainingError as error:
        raise EnvironmentProblem(
            error.message, details=error.details, hint="what is done is kept: the same command goes on from there"
        ) from None


def _compute_share(extractor: Extractor, pictures: Pictures, out: Path, *, normalize: bool) -> None:
    """What one of several processes does; the first one speaks."""
    import signal

    from shitu_cli.cli import console
    from shitu_cli.features.feature_file import compute_share
    from shitu_cli.processes import launch
    from shitu_cli.runtime.setup import let_through

    let_through(signal.SIGTERM)
    reporter = console.reporter() if launch.is_main() else console.silent()
    reporter.info(_told(extractor, pictures))
    compute_share(extractor, pictures, out, reporter, normalize=normalize, rank=launch.rank(), world=launch.world())


def open_extractor(
    workspace: Path | None, model: Path | None, *, precision: str | None = None, batch_size: int = BATCH
) -> Extractor:
    """The extractor of `model`, of the workspace's exported model, or of its best checkpoint, on this rank's device.

    It takes `batch_size` pictures at once, and the engine that is fastest so.
    """
    from shitu_cli.cli import console
    from shitu_cli.cli.common import export_is_stale, open_workspace, standing
    from shitu_cli.features.backends import MODEL_FILES
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.features.selection import without_manifest
    from shitu_cli.processes import launch

    device = launch.own_device("cpu")
    gpu = None if device == "cpu" else int(device.rpartition(":")[2])

    def opened(path: Path, config: Config | None = None) -> Extractor:
        return Extractor(path, config=config, precision=precision, batch_size=batch_size, gpu=gpu)

    if model is not None and (model.is_dir() or model.suffix in (".onnx", ".pdmodel", ".json")):
        made = opened(model, _config_or_none(workspace))
        if remark := without_manifest(model):
            console.reporter().warn(remark)
        return made
    space = open_workspace(workspace)
    config = _config_or_none(workspace)
    if model is not None:
        return opened(model, config)
    if (space.inference_dir / "manifest.json").is_file():
        if export_is_stale(space):
            console.reporter().warn(
                f"{space.inference_dir} is of an older model than the trained: shitu export renews it"
            )
        return opened(space.inference_dir)
    if any((space.inference_dir / name).is_file() for name in MODEL_FILES):
        raise DataError(
            f"{space.inference_dir} holds a model, but no manifest.json that says how its pictures are prepared",
            hint="export again: shitu export; or name what to use: --model output/best_model",
        )
    best = standing(space.output_dir / "best_model")
    if not best.with_name(f"{best.name}.pdparams").is_file():
        raise UsageError("there is neither an exported model nor a checkpoint", hint="shitu train, then shitu export")
    return opened(best, config)


def own_image_root(workspace: Path | None, listed: Path) -> Path | None:
    """Where the paths of the workspace's own lists count from; None for other lists."""
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.config.load import resolve_path

    config = _config_or_none(workspace)
    if config is None:
        return None
    space = open_workspace(workspace)
    loaders = config.DataLoader
    for split in (loaders.train, loaders.query, loaders.gallery):
        if split is not None and resolve_path(space.root, split.dataset.cls_label_path).resolve() == listed.resolve():
            return resolve_path(space.root, split.dataset.image_root)
    return None


def _config_or_none(workspace: Path | None) -> Config | None:
    from shitu_cli.cli.common import load_workspace_config, open_workspace
    from shitu_cli.errors import UsageError

    try:
        return load_workspace_config(open_workspace(workspace))
    except UsageError:
        return None
