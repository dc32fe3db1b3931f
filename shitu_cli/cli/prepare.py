"""`shitu prepare`: turn labelled images into checked lists and a config that fits them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.config.arguments import DEPTH, SEED, SHARE
from shitu_cli.errors import Command, UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.reporting import short_list

if TYPE_CHECKING:
    from shitu_cli.preparation.prepare import Prepared
    from shitu_cli.steps.prepare import Preparation

READING = "What is read"
SPLIT = "Split and labels"
CHECK = "Checks"


def prepare(
    context: typer.Context,
    sources: Annotated[
        list[Path] | None,
        argument("Folder of images, a list or an archive of them, or an address; several with --merge."),
    ] = None,
    workspace: options.WorkspaceOption = None,
    format: Annotated[str | None, option(READING, "Layout of the source; by default it is recognised.")] = None,
    formats: Annotated[bool, option(READING, "List the layouts that are recognised.", "--formats")] = False,
    template: Annotated[str | None, option(options.WORKSPACE, "Config to start from; see shitu templates.")] = None,
    split: Annotated[
        str | None,
        option(
            SPLIT,
            "Which images to hold out for evaluation: auto, open (whole classes that training never sees), closed "
            "(some images of every class) or none; by default as in the last run, or auto.",
        ),
    ] = None,
    share: Annotated[
        float | None,
        option(SPLIT, "Share of classes or images to hold out; by default as in the last run, or 0.2.", within=SHARE),
    ] = None,
    seed: Annotated[
        int | None,
        option(
            SPLIT,
            "Another seed holds out other classes or images; by default as in the last run, or 0.",
            within=SEED,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        option(
            READING,
            "What the columns hold, by name or (in lists) number: image=file,label=sku,split=part,box=bbox:xywh.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        option(
            READING,
            "Which official split: dml or classification (CUB-200-2011, Cars196); small, medium or large (VeRI-Wild); "
            "variant, family or manufacturer (FGVC-Aircraft).",
        ),
    ] = None,
    image_root: Annotated[Path | None, option(READING, "Folder to which the paths in lists are relative.")] = None,
    encoding: Annotated[
        str | None,
        option(READING, "Encoding of lists and tables that are not UTF-8, such as gb18030, cp932 or cp1252."),
    ] = None,
    depth: Annotated[
        int | None,
        option(
            READING,
            "How many folder levels name a class: 1 for brand/, 2 for brand/model/; in annotated images also of boxes.",
            within=DEPTH,
        ),
    ] = None,
    merge: Annotated[
        bool,
        option(READING, "Make one data set of several sources; classes of the same name are one class.", "--merge"),
    ] = False,
    keep_apart: Annotated[
        bool, option(READING, "With --merge: keep classes of the same name apart.", "--keep-apart")
    ] = False,
    corrections: Annotated[
        Path | None,
        option(
            SPLIT,
            "Table with the columns path and label: new labels for these images; an empty label leaves an image out. "
            "By default as in the last run; none forgets them.",
        ),
    ] = None,
    new_labels: Annotated[
        bool, option(SPLIT, "Number the classes from 0 again instead of as in the last run.", "--new-labels")
    ] = False,
    fix: Annotated[bool, option(CHECK, "Leave images that cannot be used out of the new lists.", "--fix")] = False,
    strict: Annotated[bool, option(CHECK, "Treat warnings as errors.", "--strict")] = False,
    quick: Annotated[bool, option(CHECK, "Read only the headers of images, decode none.", "--quick")] = False,
    compare: Annotated[
        int | None,
        option(
            CHECK,
            "How many images to compare with a trained network, so that the report shows likely wrong labels first; 0 "
            "for none; by default 3000 where training starts from trained weights.",
            low=0,
            high=1_000_000,
        ),
    ] = None,
    dry_run: options.DryRunOption = False,
    pack: Annotated[
        Path | None,
        option(options.OUTPUT, "Folder to write the images to as tar shards, which the lists then name."),
    ] = None,
    pack_size: Annotated[
        int, option(options.OUTPUT, "Size of a shard of --pack in MiB.", low=1, high=options.MANY, metavar="MIB")
    ] = 512,
    as_json: options.JsonOption = False,
) -> None:
    """Check images and lists, split them, number the classes and write a config that fits; never change your files."""
    session = Session.of(context)
    if formats:
        _show_formats(session.console)
        return
    if not sources:
        raise UsageError("no images were named: give a folder or a list", hint=Command("prepare", "./data"))
    from shitu_cli.preparation.reading import are_shards

    if len(sources) > 1 and not merge and not are_shards(sources):
        raise UsageError(
            f"{len(sources)} sources: are classes that have the same name in several of them the same class?",
            details=["--merge: yes, one class", "--merge --keep-apart: no, a class for each source"],
            hint=[Command("prepare", "--merge"), " or ", Command("prepare", "--merge", "--keep-apart")],
        )
    if dry_run:
        from shitu_cli.cli.dry_run import show_cost
        from shitu_cli.preparation.last_options import PrepareOptions
        from shitu_cli.steps.image_costs import cost_of_prepare

        reading = PrepareOptions(
            format=format,
            columns=columns,
            protocol=protocol,
            image_root=None if image_root is None else str(image_root),
            encoding=encoding,
            depth=depth,
            keep_apart=keep_apart,
        )
        cost = cost_of_prepare(sources, session.workspace or Path.cwd(), reading.choices(fix=fix, quick=quick), pack)
        show_cost(session.console, cost)
        return
    from shitu_cli.steps.prepare import prepare as run

    preparation = run(
        sources,
        session.workspace,
        format=format,
        columns=columns,
        protocol=protocol,
        image_root=image_root,
        split=split,
        share=share,
        seed=seed,
        encoding=encoding,
        depth=depth,
        keep_apart=keep_apart,
        corrections=corrections,
        template=template,
        new_labels=new_labels,
        fix=fix,
        strict=strict,
        quick=quick,
        compare=compare,
        pack=pack,
        pack_mib=pack_size,
        reporter=session.console,
        on_checked=lambda prepared: _show_checked(session.console, prepared),
    )
    _show(session.console, preparation)


def _show_checked(console: Console, prepared: Prepared) -> None:
    from shitu_cli.steps.prepare import report_values

    _show_problems(console, prepared)
    if console.as_json:
        console.json(report_values(prepared))


def _show_problems(console: Console, prepared: Prepared) -> None:
    from shitu_cli.preparation.problems import SHOWN

    rows = []
    for name, kind, cases in prepared.problems.ordered():
        first = "\n".join(f"{where}  {detail}".rstrip() for where, detail in cases.examples[:SHOWN])
        rows.append([f"{kind.level}: {name}", f"{cases.count:,}", first, f"{kind.text}: {kind.fix}"])
    if rows:
        console.table("Problems found", ["kind", "count", "first ones", "what it is, and what to do"], rows)
    else:
        console.info("no problems found")


def _show(console: Console, preparation: Preparation) -> None:
    space, prepared = preparation.workspace, preparation.prepared
    say = console.info
    say(f"split: {prepared.split}")
    lists = [("train", prepared.train), ("query", prepared.query), ("gallery", prepared.gallery)]
    rows = [
        [f"lists/{name}_list.txt", f"{len(part):,}", f"{len(set(part.labels.tolist())):,}"]
        for name, part in lists
        if part is not None
    ]
    console.table("", ["list", "images", "classes"], rows)
    moved = [f"{name} → {label}" for name, label in prepared.names.items() if whole_number(name) not in (None, label)]
    if moved:
        say(f"labels are numbered from 0 without gaps: {short_list(moved)} (all are in lists/label_map.txt)")
    if prepared.left_out:
        say(f"left out: {prepared.left_out:,} (see {space.reports_dir / 'prepare.html'})")
    if preparation.template is not None:
        say(f"{space.config_path}: made from the template {preparation.template} ({preparation.reason})")
    if preparation.start:
        say(preparation.start)
    for change in preparation.changes:
        say(f"  shitu.yaml:{change.line}: {change.key}: {change.old or 'nothing'} → {change.new}")
    say(f"report: {space.reports_dir / 'prepare.html'}")
    console.next_step(Command("train"))


def _show_formats(console: Console) -> None:
    from shitu_cli.preparation.formats import all_formats

    formats = all_formats()
    if console.as_json:
        console.json([{"format": f.name, "layout": f.layout} for f in formats])
        return
    console.table("Layouts that prepare reads", ["--format", "layout"], [[f.name, f.layout] for f in formats])
