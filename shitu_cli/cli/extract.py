"""`shitu extract`: feature vectors of any images, to a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.cli.grouped import USE, GroupedCommands
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command, DataError, EnvironmentProblem, TrainingError, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.cli.console import Console
    from shitu_cli.features.detection.detector import Detector
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.features.feature_file import Written
    from shitu_cli.preparation.sources import ImageFiles

BATCH = 32


def register(app: GroupedCommands) -> None:
    app.add("extract", extract, USE)


def extract(
    context: typer.Context,
    sources: Annotated[list[str], argument(options.SOURCES)],
    out: Annotated[
        Path, option(options.OUTPUT, "features.npy (with paths and labels in features.tsv), .npz, .jsonl or .parquet.")
    ] = Path("features.npy"),
    model: options.ModelOption = None,
    pretrained: options.PretrainedOption = None,
    precision: options.PrecisionOption = None,
    raw: Annotated[
        bool, option(options.OUTPUT, "Keep features at their own length instead of scaling them to one.", "--raw")
    ] = False,
    batch_size: Annotated[
        int, option(options.PROCESSOR, "How many images the network gets at once.", low=1, high=65_536)
    ] = BATCH,
    devices: options.DevicesOption = None,
    detector: options.DetectorOption = None,
    detector_threshold: options.DetectorThresholdOption = None,
    shard: options.ShardOption = None,
    strict: Annotated[bool, option(options.OUTPUT, "Fail when an image cannot be read.", "--strict")] = False,
    workspace: options.WorkspaceOption = None,
    dry_run: options.DryRunOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Compute the feature vector of every image; after an interruption, the same command continues.

    With --shard 3/16, several machines that do not talk to each other compute a part each; shitu merge joins them.
    """
    from shitu_cli.cli.opening import chosen_model, config_or_none, open_detector
    from shitu_cli.features.extract_shards import extract_shard, own_images
    from shitu_cli.features.feature_file import extract_to_file, wait_for_others
    from shitu_cli.features.shard_file import Share
    from shitu_cli.features.writing import check_out
    from shitu_cli.preparation.sources import find_images
    from shitu_cli.processes import this_process
    from shitu_cli.steps.gallery import own_image_root, workspace_of
    from shitu_cli.steps.models import open_extractor

    session = Session.of(context)
    console = session.console
    if out.resolve() in {Path(source).resolve() for source in sources}:
        raise UsageError(f"{out} is one of the sources", hint="--out features.npy")
    check_out(out)
    share = None if shard is None else Share.parse(shard)
    model = chosen_model(session, model, pretrained)
    config = config_or_none(session, model)
    if detector is not None and devices is not None:
        raise UsageError(
            "--detector works in one process only",
            hint=["leave out --devices; several processes compute a part each: ", Command("extract", "--shard", "1/2")],
        )
    finder = open_detector(session, detector, detector_threshold)
    images = find_images(sources, lambda path: own_image_root(config, path), workspace=workspace_of(config))
    part, target = own_images(images, share, batch_size), out if share is None else share.file(out)
    launched = not dry_run and _launch(devices)
    extractor = open_extractor(config, model, precision=precision, batch_size=batch_size, reporter=console)
    if dry_run:
        from shitu_cli.cli.dry_run import show_cost
        from shitu_cli.steps.image_costs import cost_of_extract

        show_cost(console, cost_of_extract(extractor, part, target, finder), as_json=as_json)
        return
    if this_process.is_child() and this_process.world() > 1:
        _compute_share(session, extractor, part, target, normalize=not raw, detector=finder)
        if this_process.has_parent() or not this_process.is_main():
            return
        wait_for_others(extractor, part, target, console, normalize=not raw, detector=finder)
    elif not launched:
        console.info(_summary(extractor, part))
    if share is None:
        written = extract_to_file(extractor, images, out, console, normalize=not raw, detector=finder)
    else:
        written = extract_shard(extractor, images, out, share, console, normalize=not raw, detector=finder)
    if as_json:
        console.json({"out": [str(f) for f in written.files], "images": written.count, "skipped": written.skipped})
    show_written(console, written, target, strict=strict)
    if share is None:
        console.next_step(Command("index build", "--features", out, without=("--detector", "--detector-threshold")))
    else:
        console.next_step(["when all parts are there: ", Command("merge", f"{out}.*-of-{share.of}.shard")])


def show_written(console: Console, written: Written, out: Path, *, strict: bool) -> None:
    """Show what was written and what was left out; with `strict`, raise DataError for the latter."""
    if written.skipped:
        lines = [f"{path}: {why}" for path, why in list(written.skipped.items())[:20]]
        total = written.count + len(written.skipped)
        message = f"{len(written.skipped)} of {counted(total, 'image')} could not be read and are not in {out}"
        if strict:
            raise DataError(message, details=lines)
        console.warn(message + "".join(f"\n  {line}" for line in lines))
    console.info(f"{counted(written.count, 'vector')} in {', '.join(str(f) for f in written.files)}")


def _summary(extractor: Extractor, images: ImageFiles) -> str:
    return f"{images.described()}; {extractor.feature_size} values each, by {extractor.engine.summary()}"


def _launch(devices: str | None) -> bool:
    """Run this command in several processes, each for its share of the images; return False if this is the only one."""
    from shitu_cli.processes import launch

    try:
        with tempfile.TemporaryDirectory(prefix="shitu-") as logs:
            return launch.launch(devices, output=Path(logs))
    except TrainingError as error:
        raise EnvironmentProblem(
            error.message,
            details=error.details,
            hint="finished features are kept: the same command continues from there",
        ) from None


def _compute_share(
    session: Session,
    extractor: Extractor,
    images: ImageFiles,
    out: Path,
    *,
    normalize: bool,
    detector: Detector | None,
) -> None:
    """Compute the features of this process's share; only the first process shows progress."""
    import signal

    from shitu_cli.features.feature_file import compute_share
    from shitu_cli.processes import this_process
    from shitu_cli.runtime.setup import let_through

    let_through(signal.SIGTERM)
    reporter = this_process.reporter_of(session.console)
    reporter.info(_summary(extractor, images))
    rank, world = this_process.rank(), this_process.world()
    compute_share(extractor, images, out, reporter, normalize=normalize, detector=detector, rank=rank, world=world)
