"""`shitu search`: which pictures of the index look like these?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.cli.index import IndexOption, ModelOption, check_model
from shitu_cli.errors import UsageError

if TYPE_CHECKING:
    from shitu_cli.retrieval.index import Match
    from shitu_cli.workspace import Workspace

FALSE_ACCEPTS = 1e-3  # the rate behind `--threshold auto`


def register(app: typer.Typer) -> None:
    app.command("search")(search)


def search(
    images: Annotated[list[str], typer.Argument(help="Pictures, folders, lists or patterns.")],
    top: Annotated[int, typer.Option(min=1, help="Matches per picture.")] = 5,
    threshold: Annotated[
        str | None, typer.Option(help="Lowest score to show, or auto: what evaluation suggests.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures found.")] = None,
    index: IndexOption = None,
    model: ModelOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Find the nearest pictures of the index: label, score (cosine), path."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.cli.extract import open_extractor, own_image_root
    from shitu_cli.data.sources import find_pictures
    from shitu_cli.infer.extractor import pictures_of
    from shitu_cli.retrieval.index import VectorIndex

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    folder = index or space.index_dir
    known = VectorIndex.load(folder)
    extractor = open_extractor(workspace, model)
    check_model(known, extractor, folder)
    limit = _threshold(threshold, space)
    if limit is not None:
        console.reporter().info(f"matches below {limit:g} are left out")
    pictures = find_pictures(images, lambda path: own_image_root(workspace, path))
    results: list[tuple[str, list[Match]]] = []
    unread: dict[int, str] = {}
    for indices, features, skipped in extractor.batches(pictures_of(pictures)):
        unread |= skipped
        for at, matches in zip(indices, known.search(features, top, limit), strict=True):
            results.append((pictures.name(int(at)), matches))
    for why in unread.values():
        console.reporter().warn(why)
    if html is not None:
        _write_page(html, results, space, pictures.labels)
    if as_json:
        console.print_json({"threshold": limit, "results": [_plain(query, matches) for query, matches in results]})
    else:
        _show(results, html)
    if not results:
        raise UsageError("none of the pictures can be read", hint="see the warnings above")


def _threshold(text: str | None, space: Workspace) -> float | None:
    if text is None:
        return None
    if text != "auto":
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"--threshold {text}: expected a number or auto") from None
    try:
        values = json.loads((space.reports_dir / "evaluate.json").read_text(encoding="utf-8"))
        return float(next(row["threshold"] for row in values["accept_rates"] if row["far"] == FALSE_ACCEPTS))
    except (OSError, ValueError, KeyError, StopIteration):
        raise UsageError("--threshold auto needs a plain evaluation (no re-ranking)", hint="shitu evaluate") from None


def _plain(query: str, matches: list[Match]) -> dict[str, object]:
    hits = [{"id": m.id, "label": m.label, "score": round(m.score, 6), "path": m.path} for m in matches]
    return {"query": query, "matches": hits}


def _show(results: list[tuple[str, list[Match]]], html: Path | None) -> None:
    from shitu_cli.cli import console

    for query, matches in results:
        rows = [[m.label, f"{m.score:.4f}", m.path] for m in matches]
        if rows:
            console.print_table(query, ["label", "score", "path"], rows)
        else:
            console.reporter().info(f"{query}: nothing in the index is that similar")
    if html is not None:
        console.reporter().info(f"page: {html}")


def _write_page(path: Path, results: list[tuple[str, list[Match]]], space: Workspace, labels: list[str]) -> None:
    from shitu_cli.report.page import row, section, write_page

    parts = []
    for query, matches in results:
        found = (_figure(space.root / m.path, f"{m.label} {m.score:.3f}") for m in matches)
        parts.append(section(Path(query).name, row(_figure(Path(query), "query"), *found)))
    write_page(path, "shitu search", parts)


def _figure(name: Path, caption: str) -> str:
    """A picture, or the part of it that a name with a box means."""
    from shitu_cli.data.formats.textlist import parse_box
    from shitu_cli.report.page import figure

    path, _, box = str(name).rpartition("#")
    if path and parse_box(box) is not None:
        return figure(Path(path), caption, box=parse_box(box))
    return figure(name, caption)
