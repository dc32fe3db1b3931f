"""`shitu prepare`: from labelled pictures to checked lists and a config that fits them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from shitu_cli.config.patch import Change
    from shitu_cli.preparation.prepare import Choices, Prepared
    from shitu_cli.preparation.remembered import Asked
    from shitu_cli.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command("prepare")(prepare)


def prepare(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Folder of pictures, or a list of them; several with --merge.")
    ] = None,
    workspace: options.WorkspaceOption = None,
    format: Annotated[str | None, typer.Option(help="Layout of the source; default: recognised.")] = None,
    formats: Annotated[bool, typer.Option("--formats", help="List the layouts that are recognised.")] = False,
    template: Annotated[str | None, typer.Option(help="Config to start from; see shitu templates.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="auto, open (unseen classes for evaluation), closed or none; default: as last time, or auto."
        ),
    ] = None,
    share: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Part kept for evaluation; at first 0.2.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed keeps other classes or pictures; at first 0.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Column names of a table: image=file,label=sku,split=part,box=bbox.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Among several official splits: dml, classification.")] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder that the paths of lists count from.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="One data set of several sources, their classes kept apart.")
    ] = False,
    new_labels: Annotated[bool, typer.Option("--new-labels", help="Number classes anew, not as before.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Leave out what cannot be used, in the new lists.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Look at headers only, decode nothing.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Check pictures and lists, split them, number the classes, write a config that fits. Your data stays as it is."""
    from shitu_cli.cli import console

    console.configure(as_json=as_json)
    if formats:
        _show_formats(as_json)
        return
    if not sources:
        raise UsageError("which pictures? name a folder or a list", hint="shitu prepare ./data")
    if len(sources) > 1 and not merge:
        raise UsageError(f"{len(sources)} sources", hint="add --merge to make one data set of them")
    from shitu_cli.journal import finish
    from shitu_cli.preparation.remembered import Asked

    root = None if image_root is None else str(image_root)
    asked = Asked(format, columns, protocol, root, split, share, seed)
    asked.choices(fix=fix, quick=quick)  # wrong ones are refused before anything is made
    space = _workspace(workspace, sources)
    # A run that trains now reads the lists again when it evaluates, and when it is resumed.
    with space.lock("prepare"), space.lock("train", command="prepare"):
        finish(space)  # what a killed prepare has committed
        asked = _as_before(space, sources, asked)
        choices = asked.choices(fix=fix, quick=quick)
        _prepare(space, sources, asked, choices, template, new_labels=new_labels, strict=strict, as_json=as_json)


def _as_before(space: Workspace, sources: list[Path], asked: Asked) -> Asked:
    """What was asked for these sources the last time still holds, unless it is given anew; it is said."""
    from shitu_cli.cli import console
    from shitu_cli.data.generation import NAME
    from shitu_cli.preparation.remembered import recall

    whole, before = recall(space, sources, asked)
    if before.told():
        path = space.lists_dir / NAME
        console.reporter().info(f"as last time: {before.told()}   (kept in {path}; give another value to change it)")
    return whole


def _prepare(
    space: Workspace,
    sources: list[Path],
    asked: Asked,
    choices: Choices,
    template: str | None,
    *,
    new_labels: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Check, tell, and write unless something stands in the way."""
    from shitu_cli.cli import console
    from shitu_cli.files import atomic_write_json
    from shitu_cli.preparation.audit import LookCache
    from shitu_cli.preparation.prepare import prepare as run
    from shitu_cli.preparation.write import write_prepared
    from shitu_cli.report.prepare_page import write_prepare_page

    text, name, why = _config_text(space, template)
    made = run(
        sources,
        choices,
        console.reporter(),
        known_names={} if new_labels else _known_names(space),
        sample_per_id=_sample_per_id(text),
        cache=LookCache(space.cache_dir / "pictures.bin"),
    )
    summary = _summary(made)

    def write_reports(json_path: Path, page_path: Path) -> None:
        atomic_write_json(json_path, {**summary, "problems": made.problems.to_json()})
        write_prepare_page(made, page_path)

    _show_problems(made)
    if as_json:
        console.print_json({**summary, "problems": made.problems.to_json()})
    count = _problems_to_fix(made, fix=choices.fix, strict=strict)
    if count:
        write_reports(space.reports_dir / "prepare.json", space.reports_dir / "prepare.html")
        raise _to_fix(space, count, strict=strict and not made.problems.count("error"))
    changes = write_prepared(
        space, made, text, template=name, sources=sources, asked=asked, write_reports=write_reports
    )
    _show(space, made, changes, name, why)


def _problems_to_fix(made: Prepared, *, fix: bool, strict: bool) -> int:
    """How many problems stand in the way; --fix leaves out what is an error, warnings count with --strict."""
    errors = 0 if fix else made.problems.count("error")
    return errors + (made.problems.count("warning") if strict else 0)


def _to_fix(space: Workspace, count: int, *, strict: bool) -> DataError:
    """The error that names the way on; `strict`: only warnings stand in the way."""
    from shitu_cli.reporting import counted

    again = [word for word in sys.argv[1:] if word not in ("--debug", "--strict")]
    way = f"leave such pictures out: shitu {shlex.join([*again, '--fix'])}"
    if strict:
        way = f"take the warnings as they are: shitu {shlex.join(again)}"
    return DataError(
        f"{counted(count, 'problem')} to fix first; nothing was written but {space.reports_dir}",
        hint=f"fix them, or {way}",
    )


def _workspace(named: Path | None, sources: list[Path]) -> Workspace:
    """Where to work: as named, the one around, or here; never inside the user's pictures."""
    from shitu_cli.cli import console
    from shitu_cli.workspace import CONFIG_NAME, Workspace

    console.configure(workspace=named)
    root = named or (Path(os.environ["SHITU_WORKSPACE"]) if os.environ.get("SHITU_WORKSPACE") else None)
    if root is None:
        here = Path.cwd()
        root = next((d for d in (here, *here.parents) if (d / CONFIG_NAME).is_file()), here)
    for source in sources:
        folder = source if source.is_dir() else source.parent
        if folder.exists() and root.resolve().is_relative_to(folder.resolve()) and source.is_dir():
            raise UsageError(
                f"the workspace {root} would lie inside your pictures in {source}",
                hint=f"work elsewhere: cd ..  or  shitu prepare {source} -w ../work",
            )
        if not source.exists():
            raise UsageError(f"no such folder or file: {source}", hint="check the path; quote it if it holds blanks")
    _keep_lists_of_others(root, sources)
    return Workspace.create(root)


def _keep_lists_of_others(root: Path, sources: list[Path]) -> None:
    """Lists that this program did not write are never replaced; its own are no source."""
    from shitu_cli.workspace import CONFIG_NAME

    own = root.resolve() / "lists"
    for source in sources:
        if source.resolve() == own or source.resolve().is_relative_to(own):
            raise UsageError(
                f"{source} lies where prepare writes its own lists ({own})",
                hint=f"work elsewhere: shitu prepare {source} -w ../work",
            )
    if not (root / CONFIG_NAME).is_file():
        names = ("train_list.txt", "query_list.txt", "gallery_list.txt", "label_map.txt")
        there = [name for name in names if (own / name).exists()]
        if there:
            raise UsageError(
                f"{own / there[0]} is there already and no {CONFIG_NAME}: prepare would replace it",
                hint="work elsewhere: -w ../work",
            )


def _config_text(space: Workspace, template: str | None) -> tuple[str, str | None, str]:
    """The config to patch; with its template's name and the reason when it is new."""
    from shitu_cli.config.source import MAX_BYTES
    from shitu_cli.inputs import decode_text, read_bytes
    from shitu_cli.preparation.adapt import choose_template
    from shitu_cli.templates import read_template

    if space.config_path.is_file():
        if template is not None:
            raise UsageError(
                f"{space.config_path} is there already; --template would replace it",
                hint=f"move it away first: mv {space.config_path} {space.config_path}.old",
            )
        # Bytes, not text: line ends and a byte-order mark stay as they are.
        data = read_bytes(space.config_path, limit=MAX_BYTES, error=ConfigError)
        decode_text(data, space.config_path, error=ConfigError)
        return data.decode("utf-8"), None, ""
    name, why = (template, "as asked") if template is not None else choose_template()
    return read_template(name), name, why


def _known_names(space: Workspace) -> dict[str, int]:
    from shitu_cli.data.lists import read_label_map

    path = space.lists_dir / "label_map.txt"
    return read_label_map(path) if path.is_file() else {}


def _sample_per_id(text: str) -> int:
    from shitu_cli.inputs.yaml_files import parse_yaml

    try:
        sampler = parse_yaml(text, "shitu.yaml", error=ConfigError)["DataLoader"]["Train"]["sampler"]
        return int(sampler.get("sample_per_id", 1))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return 1


def _summary(made: Prepared) -> dict[str, Any]:
    return {
        "format": made.format,
        "image_root": str(made.image_root),
        "split": made.split,
        "class_num": made.class_num,
        "train": len(made.train),
        "query": len(made.query) if made.query else 0,
        "gallery": len(made.gallery) if made.gallery else 0,
        "left_out": made.left_out,
    }


def _show_problems(made: Prepared) -> None:
    from shitu_cli.cli import console
    from shitu_cli.preparation.problems import SHOWN

    rows = []
    for name, kind, found in made.problems.ordered():
        first = "\n".join(f"{where}  {detail}".rstrip() for where, detail in found.examples[:SHOWN])
        rows.append([f"{kind.level}: {name}", f"{found.count:,}", first, f"{kind.text}: {kind.mend}"])
    if rows:
        console.print_table("What was found", ["kind", "count", "first ones", "what it is, and what to do"], rows)
    else:
        console.reporter().info("nothing is wrong with them")


def _show(space: Workspace, made: Prepared, changes: list[Change], template: str | None, why: str) -> None:
    from shitu_cli.cli import console

    say = console.reporter().info
    say(f"split: {made.split}")
    lists = [("train", made.train), ("query", made.query), ("gallery", made.gallery)]
    rows = [
        [f"lists/{name}_list.txt", f"{len(part):,}", f"{len(set(part.labels.tolist())):,}"]
        for name, part in lists
        if part is not None
    ]
    console.print_table("", ["list", "pictures", "classes"], rows)
    moved = [
        f"{name} → {label}"
        for name, label in made.names.items()
        if name.isascii() and name.isdigit() and int(name) != label
    ]
    if moved:
        shown = ", ".join(moved[:3]) + (", ..." if len(moved) > 3 else "")
        say(f"labels count from 0 without gaps: {shown} (lists/label_map.txt has them all)")
    if made.left_out:
        say(f"left out: {made.left_out:,} (see {space.reports_dir / 'prepare.html'})")
    if template is not None:
        say(f"{space.config_path}: from the template {template} ({why})")
    for change in changes:
        say(f"  shitu.yaml:{change.line}: {change.key}: {change.old or 'nothing'} → {change.new}")
    say(f"report: {space.reports_dir / 'prepare.html'}")
    console.next_step("shitu train")


def _show_formats(as_json: bool) -> None:
    from shitu_cli.cli import console
    from shitu_cli.preparation.formats import FORMATS

    if as_json:
        console.print_json([{"format": f.name, "layout": f.layout} for f in FORMATS])
        return
    console.print_table("Layouts that prepare reads", ["--format", "layout"], [[f.name, f.layout] for f in FORMATS])
