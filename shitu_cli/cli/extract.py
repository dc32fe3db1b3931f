"""`shitu extract`: feature vectors of any images, to a file."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command, DataError, EnvironmentProblem, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.features.feature_file import Written
    from shitu_cli.features.resumable import Extraction
    from shitu_cli.preparation.sources import ImageFiles

BATCH = 32


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
        bool, option(options.OUTPUT, "Write features as the network gives them, not scaled to length one.", "--raw")
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
    from shitu_cli.features.extract_shards import extract_shard, own_images
    from shitu_cli.features.feature_file import extract_to_file, wait_for_others
    from shitu_cli.features.resumable import Extraction
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
    if dry_run:
        session.refuse("--devices", why="--dry-run measures one process", hint="leave out --devices")
    share = opening.share_of(shard)
    model = opening.chosen_model(session, model, pretrained, dry_run=dry_run)
    config = opening.config_or_none(session, model)
    if detector is not None and devices is not None:
        raise UsageError(
            "--detector works in one process only",
            hint=["leave out --devices; several processes compute a part each: ", Command("extract", "--shard", "1/2")],
        )
    finder = opening.open_detector(session, detector, detector_threshold)
    images = find_images(sources, lambda path: own_image_root(config, path), workspace=workspace_of(config))
    part, target = own_images(images, share, batch_size), out if share is None else share.file(out)
    _warn_of_paths(console, part, target)
    launched = _launch(devices)
    extractor = open_extractor(config, model, precision=precision, batch_size=batch_size, reporter=console)
    if dry_run:
        from shitu_cli.cli.dry_run import show_cost
        from shitu_cli.steps.image_costs import cost_of_extract

        show_cost(console, cost_of_extract(extractor, part, target, finder))
        return
    own = Extraction(extractor, part, normalize=not raw, detector=finder)
    if this_process.is_child() and this_process.world() > 1:
        _compute_share(session, own, target)
        if this_process.has_parent() or not this_process.is_main():
            return
        wait_for_others(own, target, console)
    elif not launched:
        console.info(_summary(own))
    if share is None:
        written = extract_to_file(own, out, console)
    else:
        written = extract_shard(replace(own, images=images), out, share, console)
    show_written(console, written, target, strict=strict)
    if share is None:
        place = () if config is not None else ("--index", "index/")  # without a workspace it must be named
        without = ("--detector", "--detector-threshold")
        console.next_step(Command("index build", "--features", out, *place, without=without))
    else:
        console.next_step(["when all parts are there: ", Command("merge", f"{out}.*-of-{share.of}.shard")])


def show_written(console: Console, written: Written, out: Path, *, strict: bool) -> None:
    """Show what was written and what was left out; with `strict`, raise DataError for the latter."""
    if console.as_json:
        console.json({"out": [str(f) for f in written.files], "images": written.count, "skipped": written.skipped})
    if written.skipped:
        lines = [f"{path}: {why}" for path, why in list(written.skipped.items())[:20]]
        total = written.count + len(written.skipped)
        message = f"{len(written.skipped)} of {counted(total, 'image')} could not be read and are not in {out}"
        if strict:
            raise DataError(message, details=lines)
        console.warn(message + "".join(f"\n  {line}" for line in lines))
    console.info(f"{counted(written.count, 'vector')} in {', '.join(str(f) for f in written.files)}")


def _warn_of_paths(console: Console, images: ImageFiles, out: Path) -> None:
    """Warn of paths that a line of text cannot hold."""
    from shitu_cli.features.writing import one_line

    if odd := sum(one_line(name) != name for name in map(images.name, range(len(images)))):
        console.warn(
            f"a tab, a line break or bytes that are not text in {counted(odd, 'path')}: {out} has a blank or � in "
            "their place, so an index built from it cannot open these images"
        )


def _summary(extraction: Extraction) -> str:
    extractor = extraction.extractor
    described = extraction.images.described()
    return f"{described}; {extractor.feature_size} values each, by {extractor.engine.summary()}"


def _launch(devices: str | None) -> bool:
    """Run this command in several processes, each for its share of the images; return False if this is the only one."""
    from shitu_cli.processes import launch
    from shitu_cli.processes.failures import Advice

    advice = Advice(EnvironmentProblem, "finished features are kept: the same command continues from there")
    with tempfile.TemporaryDirectory(prefix="shitu-") as logs:
        return launch.launch(devices, output=Path(logs), advice=advice)


def _compute_share(session: Session, extraction: Extraction, out: Path) -> None:
    """Compute the features of this process's share; only the first process shows progress."""
    import signal

    from shitu_cli.features.feature_file import open_work
    from shitu_cli.processes import this_process
    from shitu_cli.runtime.setup import let_through

    let_through(signal.SIGTERM)
    reporter = this_process.reporter_of(session.console)
    reporter.info(_summary(extraction))
    with open_work(out, extraction) as work:
        work.compute(reporter, rank=this_process.rank(), world=this_process.world())
