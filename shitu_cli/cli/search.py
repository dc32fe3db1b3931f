"""`shitu search`: say what images show, by the most similar images of an index."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.errors import DataError, UsageError
from shitu_cli.reporting import counted
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.data.images import Box
    from shitu_cli.index.verdict import Answer, Verdict
    from shitu_cli.report.page import Figure

ANSWER = "Answers"


class Result(NamedTuple):
    """An image, its true label ("" if unknown), and the answer to it."""

    query: str
    label: str
    answer: Answer


def search(
    context: typer.Context,
    images: Annotated[list[str], argument("Images, folders, lists or patterns.")],
    top: Annotated[int, option(ANSWER, "How many matches to show for each image.", low=1, high=100_000)] = 5,
    threshold: Annotated[
        str | None,
        option(
            ANSWER,
            "The score (cosine) below which an image is unknown and matches are left out; or auto: what the last "
            "evaluation of this model suggests.",
        ),
    ] = None,
    html: Annotated[
        Path | None, option(options.OUTPUT, "Write a page (.html) that shows the images and their matches.")
    ] = None,
    index: options.IndexOption = None,
    store: options.StoreOption = None,
    collection: options.CollectionOption = None,
    detector: options.DetectorOption = None,
    detector_threshold: options.DetectorThresholdOption = None,
    max_boxes: options.MaxBoxesOption = None,
    model: options.ModelOption = None,
    pretrained: options.PretrainedOption = None,
    shard: options.ShardOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Say what each image shows, or that it is unknown, and list its matches: label, score (cosine), path.

    With --shard 3/16, several machines search for a part of the images each; the results of all parts, in their order,
    are those of one process.
    """
    from shitu_cli.config.places import Places
    from shitu_cli.features.extractor import inputs_of
    from shitu_cli.features.manifest import MANIFEST
    from shitu_cli.features.selection import BATCH
    from shitu_cli.index.objects import answers_to
    from shitu_cli.preparation.sources import find_images
    from shitu_cli.steps.gallery import own_image_root
    from shitu_cli.steps.models import exported_model, model_of_index, open_extractor
    from shitu_cli.steps.search import near_answers, threshold_of

    session = Session.of(context)
    console = session.console
    if html is not None and html.suffix.lower() not in (".html", ".htm"):  # it may be an image to search for
        raise UsageError(f"--html {html}: expected a name that ends in .html", hint="--html answers.html")
    share = opening.share_of(shard)
    model = opening.chosen_model(session, model, pretrained)
    finder = opening.open_detector(session, detector, detector_threshold, max_boxes)
    space = opening.workspace_of_index(session, optional=index is not None or store is not None)
    with closing(opening.chosen_index(space, index, store, collection)) as target:
        manifest = target.manifest()
        places = Places.read(space)
        model = model_of_index(places, model, manifest.model_path, target.place)
        if model is None and places is not None:
            model = exported_model(places, console)
        # Most searches need an exported model only: the whole config is read where something else is asked for.
        config = functools.cache(lambda: opening.config_or_none(session, model))
        files = find_images(images, lambda path: own_image_root(config(), path), folder_labels=False)
        exported = model is not None and (model / MANIFEST).is_file()
        extractor = open_extractor(
            None if exported else config(),
            model,
            batch_size=min(BATCH, len(files)),
            images=len(files),
            reporter=console,
        )
        if share is not None:
            whole, files = len(files), files.take(share.range(len(files), BATCH))
            console.info(f"part {share.number} of {share.of}: {len(files):,} of {counted(whole, 'image')}")
        opening.check_model(manifest, extractor.fingerprint, target.place, extractor.path)
        limit, _, meaning = threshold_of(threshold, reports=space.reports_dir, extractor=extractor, store=target)
        if limit is not None:
            effect = f": {'; '.join(meaning)}" if meaning else ", and matches are left out"
            console.info(f"below {limit:g} an image is unknown{effect}")
        results: list[Result] = []
        unread: list[str] = []
        outcomes = answers_to(
            inputs_of(files),
            extractor=extractor,
            detector=finder,
            answer=lambda features: near_answers(target, features, top, limit),
        )
        for at, answer in outcomes:
            if isinstance(answer, DataError):
                unread.append(answer.message)
            else:
                results.append(Result(files.name(at), files.labels[at], answer))
    for why in unread:
        console.warn(why)
    if console.as_json:
        rows = [{"query": result.query, **result.answer.to_json()} for result in results]
        console.json({"threshold": limit, "results": rows})
    else:
        _show(console, results, limit)
    if html is not None:
        _write_page(html, results, limit, space, [f"index {target.place}", f"model {extractor.path}"])
        console.info(f"page: {html}")
    if unread and not results:
        raise UsageError("none of the images could be read", hint="the warnings above say why")


def _show(console: Console, results: list[Result], limit: float | None) -> None:
    for query, _, answer in results:
        for part in answer.objects or (answer,):
            words = f"{query}{_place(part)}: {_in_words(part.verdict, limit)}"
            rows = [[match.label, f"{match.score:.4f}", match.path] for match in part.neighbours]
            console.table(words, ["label", "score", "path"] if rows else [], rows)


def _box_of(answer: Answer) -> Box | None:
    """Return the part of the image that an answer is about, None for all of it."""
    return None if answer.area is None or answer.area.is_whole else answer.area.box


def _place(answer: Answer) -> str:
    """Return the part of the image that an answer is about in words, "" for all of it."""
    if (box := _box_of(answer)) is None:
        return ""
    x1, y1, x2, y2 = box
    return f", x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"


def _in_words(verdict: Verdict, limit: float | None) -> str:
    """Return the verdict in words: only a threshold can tell `this is X` from `most like X`."""
    if verdict.nearest is None:
        return "unknown, nothing in the index has a label"
    if verdict.is_unknown:
        return f"unknown (nearest: {verdict.nearest}, {verdict.score:.2f})"
    votes = f"{verdict.confidence:.0%} of the votes; {verdict.agreeing} of {verdict.voters} neighbours agree"
    return f"{'most like' if limit is None else 'this is'} {verdict.label} ({votes})"


def _write_page(path: Path, results: list[Result], limit: float | None, space: Workspace, about: Sequence[str]) -> None:
    from shitu_cli.report.page import write_page
    from shitu_cli.stores import join

    answers = []
    for query, label, answer in results:
        boxes = [box for part in answer.objects if (box := _box_of(part)) is not None]
        if boxes:
            title = f"{Path(query).name}: {counted(len(boxes), 'thing')}"
            answers.append({"title": title, "figures": [_figure(query, f"query {label}".rstrip(), boxes=boxes)]})
        for number, part in enumerate(answer.objects or (answer,), 1):
            labels = {match.label for match in part.neighbours} if label else set()
            figures = [_figure(query, f"{number}" if boxes else f"query {label}".rstrip(), area=_box_of(part))]
            for match in part.neighbours:
                mark = "" if label not in labels else "right" if match.label == label else "wrong"
                figures.append(_figure(join(str(space.root), match.path), f"{match.label} {match.score:.3f}", mark))
            name = f"{number}" if boxes else Path(query).name
            answers.append({"title": f"{name}: {_in_words(part.verdict, limit)}", "figures": figures})
    write_page(path, "search.html", "shitu search", about, {"answers": answers})


def _figure(name: str, caption: str, mark: str = "", *, area: Box | None = None, boxes: Sequence[Box] = ()) -> Figure:
    """Return a thumbnail of an image, or of the part of it that a name with a box means, or an `area`.

    `boxes` are drawn into it with their numbers.
    """
    from shitu_cli.data.images import split_box
    from shitu_cli.report.page import figure

    path, box = split_box(name)
    if box is not None:
        return figure(path, caption, box=box, mark=mark)
    return figure(name, caption, box=area, mark=mark, drawn=boxes)
