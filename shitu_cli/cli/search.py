"""`shitu search`: say what images show, by the most similar images of an index."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from shitu_cli.cli import options
from shitu_cli.cli.grouped import USE, GroupedCommand
from shitu_cli.cli.index import CollectionOption, IndexOption, StoreOption, check_model, open_index
from shitu_cli.cli.options import option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command, UsageError

if TYPE_CHECKING:
    from shitu_cli.cli.console import Console
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.index.store import Match
    from shitu_cli.index.verdict import Verdict
    from shitu_cli.workspace import Workspace

ANSWER = "Answers"


class Answer(NamedTuple):
    """An image, its true label ("" if unknown), the verdict on it and the matches from the index."""

    query: str
    label: str
    verdict: Verdict
    matches: list[Match]


def register(app: typer.Typer) -> None:
    app.command("search", cls=GroupedCommand, rich_help_panel=USE)(search)


def search(
    context: typer.Context,
    images: Annotated[list[str], typer.Argument(help="Images, folders, lists or patterns.")],
    top: Annotated[int, option(ANSWER, "How many matches to show for each image.", low=1, high=100_000)] = 5,
    threshold: Annotated[
        str | None,
        option(
            ANSWER,
            "Lowest score to show, or auto: what the last evaluation of this model suggests (evaluate --far RATE "
            "chooses how many false accepts it may let through).",
        ),
    ] = None,
    html: Annotated[
        Path | None, option(options.OUTPUT, "Write a page that shows the images and their matches.")
    ] = None,
    index: IndexOption = None,
    store: StoreOption = None,
    collection: CollectionOption = None,
    model: options.ModelOption = None,
    pretrained: options.PretrainedOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Say what each image shows, or that it is unknown, and list its matches: label, score (cosine), path."""
    from shitu_cli.cli.common import chosen_model, config_or_none, open_workspace
    from shitu_cli.features.extractor import inputs_of
    from shitu_cli.features.selection import BATCH
    from shitu_cli.index import is_index
    from shitu_cli.index.verdict import VOTERS, judge
    from shitu_cli.preparation.sources import find_images
    from shitu_cli.steps.gallery import own_image_root
    from shitu_cli.steps.models import model_of_index, open_extractor

    session = Session.of(context)
    console = session.console
    model = chosen_model(session, model, pretrained)
    # An index remembers its model: where it lies here, or is named, it is enough.
    named = index is not None or store is not None
    space = open_workspace(session, named=named or is_index(Path("index")))
    with closing(open_index(space, index, store, collection)) as target:
        manifest = target.manifest()
        recorded = Path(manifest.model_path) if manifest.model_path else None
        config = config_or_none(session, model or recorded)
        model = model_of_index(config, model, manifest.model_path)
        files = find_images(images, lambda path: own_image_root(config, path), folder_labels=False)
        extractor = open_extractor(config, model, batch_size=min(BATCH, len(files)), reporter=console)
        check_model(manifest, extractor.fingerprint, target.place)
        limit = _threshold(console, threshold, space, extractor, model, manifest.kind)
        answers: list[Answer] = []
        unread: dict[int, str] = {}
        for indices, features, skipped in extractor.batches(inputs_of(files)):
            unread |= skipped
            for at, nearest in zip(indices.tolist(), target.search(features, max(top, VOTERS)), strict=True):
                matches = [match for match in nearest[:top] if limit is None or match.score >= limit]
                answers.append(Answer(files.name(at), files.labels[at], judge(nearest, limit), matches))
    for why in unread.values():
        console.warn(why)
    if html is not None:
        _write_page(html, answers, limit, space)
    if as_json:
        console.json({"threshold": limit, "results": [_plain(answer) for answer in answers]})
    else:
        _show(console, answers, limit, html)
    if not answers:
        raise UsageError("none of the images could be read", hint="the warnings above say why")


def _threshold(
    console: Console, text: str | None, space: Workspace, extractor: Extractor, model: Path | None, kind: str
) -> float | None:
    """Return the lowest score to show; `auto` takes it from the evaluation of exactly these features."""
    from shitu_cli.report.evaluation import read_report, report_file, suggested_threshold

    if text is None:
        return None
    if text != "auto":
        try:
            limit = float(text)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise UsageError(f"--threshold {text}: expected a number or auto")
        console.info(f"matches below {limit:g} are left out")
        return limit
    if kind == "binary":
        raise UsageError(
            "--threshold auto: evaluation suggests cosines, a binary index answers with shares of equal bits",
            hint="give a number, such as --threshold 0.8",
        )
    suggestion = suggested_threshold(space.reports_dir, extractor.fingerprint)
    if suggestion is None:
        evaluated = read_report(report_file(space.reports_dir, [])) is not None or model is not None
        raise UsageError(
            "--threshold auto needs a plain evaluation of this model (without re-ranking and the like)",
            hint=Command("evaluate", *(["--model", extractor.path] if evaluated else [])),
        )
    console.info(
        f"matches below {suggestion['threshold']:g} are left out: in the evaluation, this accepts at most "
        f"{suggestion['far']:g} of the pairs of different classes, and {suggestion['tar']:.4f} of those of one class "
        "(evaluate --far sets another rate)"
    )
    return float(suggestion["threshold"])


def _plain(answer: Answer) -> dict[str, object]:
    hits = [{"id": m.id, "label": m.label, "score": round(m.score, 6), "path": m.path} for m in answer.matches]
    verdict = {**asdict(answer.verdict), "confidence": round(answer.verdict.confidence, 6)}
    verdict["margin"] = round(answer.verdict.margin, 6)
    return {"query": answer.query, "answer": verdict, "matches": hits}


def _show(console: Console, answers: list[Answer], limit: float | None, html: Path | None) -> None:
    for answer in answers:
        rows = [[m.label, f"{m.score:.4f}", m.path] for m in answer.matches]
        if rows:
            console.table(f"{answer.query}: {_in_words(answer.verdict, limit)}", ["label", "score", "path"], rows)
        else:
            console.info(f"{answer.query}: unknown, nothing in the index is similar enough")
    if html is not None:
        console.info(f"page: {html}")


def _in_words(verdict: Verdict, limit: float | None) -> str:
    """Return the verdict as a user reads it; without a threshold nothing says whether the image is of these at all."""
    if verdict.label is None:
        return "unknown"
    agreeing = f"{verdict.agreeing} of {verdict.voters} neighbours agree"
    return f"{'most like' if limit is None else 'this is'} {verdict.label} ({verdict.confidence:.2f}; {agreeing})"


def _write_page(path: Path, answers: list[Answer], limit: float | None, space: Workspace) -> None:
    from shitu_cli.report.page import row, section, write_page

    parts = []
    for query, label, verdict, matches in answers:
        shown_labels = {m.label for m in matches} if label else set()
        figures = [_figure(Path(query), f"query {label}".rstrip())]
        for m in matches:
            mark = "" if label not in shown_labels else "right" if m.label == label else "wrong"
            figures.append(_figure(space.root / m.path, f"{m.label} {m.score:.3f}", mark))
        parts.append(section(f"{Path(query).name}: {_in_words(verdict, limit)}", row(*figures)))
    write_page(path, "shitu search", parts)


def _figure(name: Path, caption: str, mark: str = "") -> str:
    """Return a thumbnail of an image, or of the part of it that a name with a box means."""
    from shitu_cli.preparation.formats.textlist import parse_box
    from shitu_cli.report.page import figure

    path, _, box = str(name).rpartition("#")
    if path and parse_box(box) is not None:
        return figure(Path(path), caption, box=parse_box(box), mark=mark)
    return figure(name, caption, mark=mark)
