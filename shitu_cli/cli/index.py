"""`shitu index build|add|remove|show`: the vector index of a gallery."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from shitu_cli.data.sources import Pictures
    from shitu_cli.infer.extractor import Extractor
    from shitu_cli.retrieval.index import VectorIndex
    from shitu_cli.workspace import Workspace

IndexOption = Annotated[Path | None, typer.Option("--index", help="Directory of the index; default: index/.")]
ModelOption = Annotated[Path | None, typer.Option("--model", help="Exported directory, ONNX file or checkpoint.")]

group = typer.Typer(help="Build and change the vector index of a gallery.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="index")


@group.command()
def build(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Pictures, folders or lists; default: the gallery list.")
    ] = None,
    kind: Annotated[str, typer.Option(help="flat (exact), hnsw, ivf or binary.")] = "flat",
    recall: Annotated[float, typer.Option(min=0.1, max=1.0, help="What hnsw and ivf must find of the truth.")] = 0.99,
    features: Annotated[Path | None, typer.Option(help="Take vectors from a features.npy of shitu extract.")] = None,
    index: IndexOption = None,
    model: ModelOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Index the gallery's pictures (or others); replaces the index that is there."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.cli.extract import open_extractor
    from shitu_cli.retrieval.index import VectorIndex

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    folder = index or space.index_dir
    with space.lock("index"):
        if features is not None:
            vectors, pictures = _from_file(features)
            known = open_extractor(workspace, model).fingerprint if model is not None else ""
            if not known:
                console.reporter().warn("which model made these vectors is not known: name it with --model")
            paths = _paths(space, pictures)
            made = VectorIndex.build(vectors, pictures.labels, paths, kind=kind, recall=recall, model=known)
        else:
            extractor = open_extractor(workspace, model)
            pictures = _pictures(space, sources)
            vectors, pictures = _vectors(extractor, pictures)
            where = str(model or space.inference_dir)
            made = VectorIndex.build(
                vectors,
                pictures.labels,
                _paths(space, pictures),
                kind=kind,
                recall=recall,
                model=extractor.fingerprint,
                model_path=where,
            )
        made.save(folder)
    _show(made, folder, as_json)
    console.next_step("shitu search photo.jpg --top 5")


@group.command()
def add(
    sources: Annotated[list[str], typer.Argument(help="Pictures, folders (label: their name) or lists.")],
    label: Annotated[str | None, typer.Option(help="Label of all these pictures.")] = None,
    index: IndexOption = None,
    model: ModelOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Add pictures to the index; those that are in it already are replaced."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.cli.extract import open_extractor
    from shitu_cli.data.sources import find_pictures
    from shitu_cli.retrieval.index import VectorIndex

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    folder = index or space.index_dir
    pictures = find_pictures(sources)
    if label is not None:
        pictures.labels = [label] * len(pictures)
    for source in sources:
        if Path(source).is_dir():  # pictures that lie directly in a folder have its name
            whole = os.path.abspath(source)
            for n, file in enumerate(pictures.files):
                if not pictures.labels[n] and os.path.dirname(os.path.abspath(file)) == whole:
                    pictures.labels[n] = os.path.basename(whole)
    unlabelled = [file for file, name in zip(pictures.files, pictures.labels, strict=True) if not name]
    if unlabelled:
        raise UsageError(f"no label for {unlabelled[0]}", hint="give one: --label NAME, or a list with path and label")
    with space.lock("index"):
        known = VectorIndex.load(folder)
        extractor = open_extractor(workspace, model)
        check_model(known, extractor, folder)
        vectors, pictures = _vectors(extractor, pictures)
        made = known.add(vectors, pictures.labels, _paths(space, pictures))
        made.save(folder)
    console.reporter().info(f"added {len(pictures):,}")
    _show(made, folder, as_json)


@group.command()
def remove(
    paths: Annotated[list[str] | None, typer.Argument(help="Pictures to take out, by path.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Take out a whole class.")] = None,
    id: Annotated[list[int] | None, typer.Option("--id", help="Take out by id.")] = None,
    index: IndexOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Take pictures out of the index, by path, label or id."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.retrieval.index import VectorIndex

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    folder = index or space.index_dir
    with space.lock("index"):
        known = VectorIndex.load(folder)
        wanted = {*(paths or ()), *_paths(space, _named(paths or ()))}
        found = {n for n in known.labels if known.paths[n] in wanted or known.labels[n] in set(label or ())}
        found |= set(id or ()) & set(known.labels)
        absent = [str(n) for n in id or () if n not in known.labels]
        absent += [name for name in label or () if name not in set(known.labels.values())]
        here = set(known.paths.values())
        absent += [p for p in paths or () if not {p, *_paths(space, _named([p]))} & here]
        if absent or not found:
            raise UsageError(
                f"not in the index: {', '.join(absent) or 'nothing was named: give paths, --label or --id'}",
                hint="shitu index show --json",
            )
        made = known.remove(sorted(found))
        made.save(folder)
    console.reporter().info(f"took out {len(found):,}")
    _show(made, folder, as_json)


@group.command()
def show(
    index: IndexOption = None, workspace: options.WorkspaceOption = None, as_json: options.JsonOption = False
) -> None:
    """What is in the index; with --json every item."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.retrieval.index import VectorIndex

    console.configure(as_json=as_json)
    folder = index or open_workspace(workspace).index_dir
    _show(VectorIndex.load(folder), folder, as_json, items=True)


@group.command()
def export(
    out: Annotated[Path, typer.Argument(help="New directory.")],
    index: IndexOption = None,
    workspace: options.WorkspaceOption = None,
) -> None:
    """Write the index for PaddleClas's and PaddleX's pipelines: vector.index, id_map.pkl, id_map.yaml."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.retrieval.index import VectorIndex

    changed = VectorIndex.load(index or open_workspace(workspace).index_dir).export(out)
    if changed:
        console.reporter().warn(f"blanks in {len(changed)} labels became underscores, such as {changed[0]!r}")
    console.reporter().info(f"{out}: vector.index with id_map.pkl for PaddleClas and id_map.yaml for PaddleX")


def _named(paths: Sequence[str]) -> Pictures:
    from shitu_cli.data.sources import Pictures

    found = Pictures()
    for path in paths:
        found.add(path)
    return found


def check_model(known: VectorIndex, extractor: Extractor, folder: Path) -> None:
    """DataError when the index was made with another model or preprocessing."""
    if known.manifest.model and known.manifest.model != extractor.fingerprint:
        raise DataError(
            f"{folder} was built with another model or preprocessing ({known.manifest.model_path or 'not said which'})",
            hint="build it anew with this one: shitu index build",
        )


def _pictures(space: Workspace, sources: list[str] | None) -> Pictures:
    """What the user names, or the gallery list with the names of its classes."""
    from shitu_cli.cli.extract import own_image_root
    from shitu_cli.data.sources import Pictures, find_pictures

    if sources:
        return find_pictures(sources, lambda path: own_image_root(None, path))
    from shitu_cli.cli.common import load_workspace_config
    from shitu_cli.config.load import resolve_path
    from shitu_cli.data.lists import read_label_map, read_list

    loaders = load_workspace_config(space).DataLoader
    splits = [part for part in (loaders.gallery, loaders.train) if part is not None]
    # Without an evaluation split the training pictures are the gallery.
    there = [part for part in splits if resolve_path(space.root, part.dataset.cls_label_path).is_file()]
    split = next(iter(there or splits), None)
    if split is None:
        raise UsageError("the config has no gallery", hint="name the pictures: shitu index build ./gallery")
    listed = resolve_path(space.root, split.dataset.cls_label_path)
    images = read_list(listed)
    map_path = listed.with_name("label_map.txt")
    names = {n: name for name, n in read_label_map(map_path).items()} if map_path.is_file() else {}
    root = resolve_path(space.root, split.dataset.image_root)
    found = Pictures()
    for n in range(len(images)):
        number = int(images.labels[n])
        found.add(images.file(n, root), names.get(number, str(number)), images.box(n))
    return found


def _vectors(extractor: Extractor, pictures: Pictures) -> tuple[Any, Pictures]:
    """Features of all pictures that can be read; the others are told and left out."""
    import numpy as np

    from shitu_cli.cli import console
    from shitu_cli.infer.extractor import pictures_of

    reporter = console.reporter()
    features = np.full((len(pictures), extractor.feature_size), np.nan, np.float32)
    skipped: dict[int, str] = {}
    with reporter.progress("extracting", len(pictures)) as bar:
        for indices, part, unread in extractor.batches(pictures_of(pictures)):
            features[indices] = part
            skipped |= unread
            bar.advance(len(indices) + len(unread))
    if skipped:
        reporter.warn(f"{len(skipped)} pictures could not be read and are left out: {next(iter(skipped.values()))}")
    if len(skipped) == len(pictures):
        raise DataError("none of the pictures can be read", details=list(skipped.values())[:10])
    kept = [n for n in range(len(pictures)) if n not in skipped]
    return features[kept], pictures.take(kept)


def _paths(space: Workspace, pictures: Pictures) -> list[str]:
    """Relative to the workspace while below it, so that it can be moved as a whole."""
    found = []
    for number in range(len(pictures)):
        whole = os.path.abspath(pictures.name(number))
        inside = Path(whole).is_relative_to(space.root)
        found.append(Path(whole).relative_to(space.root).as_posix() if inside else whole)
    return found


def _from_file(path: Path) -> tuple[Any, Pictures]:
    import numpy as np

    from shitu_cli.data.sources import Pictures

    table = path.with_suffix(".tsv")
    found = Pictures()
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as data:
                for name, label in zip(data["paths"].tolist(), data["labels"].tolist(), strict=True):
                    found.add(name, label)
                return data["features"], found
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"cannot read {path}: {error}", hint="shitu extract writes it") from None
    try:
        vectors = np.load(path, allow_pickle=False)
        lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} with {table.name}: {error}", hint="shitu extract writes both") from None
    if len(lines) != len(vectors) or vectors.ndim != 2:
        raise DataError(f"{path}: {len(vectors)} vectors, but {len(lines)} lines in {table.name}")
    for line in lines:
        found.add(line[0], line[1])
    return vectors, found


def _show(made: VectorIndex, folder: Path, as_json: bool, *, items: bool = False) -> None:
    from dataclasses import asdict

    from shitu_cli.cli import console

    values = {"index": str(folder), "labels": len(set(made.labels.values())), **asdict(made.manifest)}
    if as_json:
        listed = [{"id": n, "label": made.labels[n], "path": made.paths[n]} for n in made.labels] if items else None
        console.print_json({**values, "items": listed} if items else values)
        return
    text = f"{len(made):,} vectors of {made.manifest.size} values, {values['labels']:,} labels, {made.manifest.kind}"
    if made.manifest.recall is not None:
        chosen = ", ".join(f"{key} {value}" for key, value in made.manifest.search.items())
        text += f" (finds {made.manifest.recall:.2%} of the true neighbours with {chosen})"
    console.reporter().info(f"{folder}: {text}")
