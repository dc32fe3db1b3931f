"""`shitu index build|add|remove|show|export`: the vector index of a gallery, in a directory or in Milvus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.errors import DataError, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.data.sources import Pictures
    from shitu_cli.infer.extractor import Extractor
    from shitu_cli.retrieval.index.store import BuildOptions, FeatureTable, IndexManifest, Store
    from shitu_cli.workspace import Workspace

IndexOption = Annotated[Path | None, typer.Option("--index", help="Directory of the index; default: index/.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="milvus:ADDRESS",
        help="Keep the index in Milvus: milvus:http://host:19530 (API key or user:password in SHITU_MILVUS_TOKEN) "
        "or a local file milvus:gallery.db.",
        show_default=False,
    ),
]
CollectionOption = Annotated[
    str | None, typer.Option("--collection", help="Its name in Milvus; default: shitu.", show_default=False)
]
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
    features: Annotated[
        Path | None,
        typer.Option(help="Take vectors from a file of shitu extract, or from another program's vector.index."),
    ] = None,
    index: IndexOption = None,
    store: StoreOption = None,
    collection: CollectionOption = None,
    model: ModelOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Index the gallery's pictures (or others); replaces the index that is there."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.retrieval.index.store import BuildOptions

    console.configure(as_json=as_json)
    if sources and features is not None:
        raise UsageError("pictures and --features both say what to index", hint="give one of them")
    space = open_workspace(workspace)
    with closing(open_index(space, index, store, collection)) as target, target.writing():
        wanted = BuildOptions(kind, recall)
        target.check(wanted)
        table, wanted = _gallery(space, workspace, sources, features, model, wanted)
        target.build(table, wanted, console.reporter())
        _show(target, as_json, {"labels": len(set(table.labels))})
    console.next_step(" ".join(["shitu search photo.jpg --top 5", *_where(index, store, collection)]))


@group.command()
def add(
    sources: Annotated[list[str], typer.Argument(help="Pictures, folders (label: their name) or lists.")],
    label: Annotated[str | None, typer.Option(help="Label of all these pictures.")] = None,
    index: IndexOption = None,
    store: StoreOption = None,
    collection: CollectionOption = None,
    model: ModelOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Add pictures to the index; those that are in it already are replaced."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.cli.extract import open_extractor, own_image_root
    from shitu_cli.data.sources import find_pictures
    from shitu_cli.retrieval.index.store import FeatureTable

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    pictures = find_pictures(sources, lambda path: own_image_root(workspace, path))
    _label_by_folder(pictures, sources)
    if label is not None:
        pictures.labels = [label] * len(pictures)
    unlabelled = [file for file, name in zip(pictures.files, pictures.labels, strict=True) if not name]
    if unlabelled:
        raise UsageError(f"no label for {unlabelled[0]}", hint="give one: --label NAME, or a list with path and label")
    with closing(open_index(space, index, store, collection)) as target, target.writing():
        known = target.manifest()
        extractor = open_extractor(workspace, model)
        check_model(known, extractor, target.place)
        vectors, pictures = _vectors(extractor, pictures)
        target.add(FeatureTable(vectors, pictures.labels, _paths(space, pictures)), console.reporter())
        console.reporter().info(f"added {len(pictures):,}")
        _show(target, as_json, {"added": len(pictures)})


@group.command()
def remove(
    paths: Annotated[list[str] | None, typer.Argument(help="Pictures to take out, by path.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Take out a whole class.")] = None,
    id: Annotated[list[int] | None, typer.Option("--id", help="Take out by id.")] = None,
    index: IndexOption = None,
    store: StoreOption = None,
    collection: CollectionOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Take pictures out of the index, by path, label or id."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace

    console.configure(as_json=as_json)
    space = open_workspace(workspace)
    if not (paths or label or id):
        raise UsageError("nothing was named", hint="give paths, --label NAME or --id N")
    names = {path: {path, _stored(space, path)} for path in paths or ()}
    with closing(open_index(space, index, store, collection)) as target, target.writing():
        found = target.find([name for both in names.values() for name in both], label or (), id or ())
        absent = [str(n) for n in id or () if n not in {item.id for item in found}]
        absent += [name for name in label or () if name not in {item.label for item in found}]
        absent += [path for path, both in names.items() if not both & {item.path for item in found}]
        if absent:
            raise UsageError(f"not in the index: {', '.join(absent)}", hint="shitu index show --json")
        target.remove([item.id for item in found])
        console.reporter().info(f"took out {len(found):,}")
        _show(target, as_json, {"removed": len(found)})


@group.command()
def show(
    index: IndexOption = None,
    store: StoreOption = None,
    collection: CollectionOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """What is in the index; with --json every item."""
    from dataclasses import asdict

    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace

    console.configure(as_json=as_json)
    space = open_workspace(workspace) if index is None and store is None else None
    with closing(open_index(space, index, store, collection)) as target:
        target.manifest()  # is there one?
        items = list(target.items())
        more: dict[str, Any] = {"labels": len({item.label for item in items})}
        if as_json:
            more["items"] = [asdict(item) for item in items]
        _show(target, as_json, more)


@group.command()
def export(
    out: Annotated[Path, typer.Argument(help="New directory.")],
    index: IndexOption = None,
    workspace: options.WorkspaceOption = None,
) -> None:
    """Write the index for PaddleClas's and PaddleX's pipelines: vector.index, id_map.pkl, id_map.yaml."""
    from shitu_cli.cli import console
    from shitu_cli.cli.common import open_workspace
    from shitu_cli.retrieval.index.files import export_index, load_index

    changed = export_index(load_index(index or open_workspace(workspace).index_dir), out)
    if changed:
        console.reporter().warn(f"blanks in {len(changed)} labels became underscores, such as {changed[0]!r}")
    console.reporter().info(f"{out}: vector.index with id_map.pkl for PaddleClas and id_map.yaml for PaddleX")


def open_index(space: Workspace | None, index: Path | None, store: str | None, collection: str | None) -> Store:
    """The store that the options name; the workspace's own directory when they name none."""
    from shitu_cli.retrieval.index import open_store

    if index is not None and store is not None:
        raise UsageError("--index and --store both say where the index is", hint="give one of them")
    if collection is not None and store is None:
        raise UsageError("--collection is for an index in Milvus", hint="--store milvus:http://host:19530")
    folder = index or (space.index_dir if space is not None else Path("index"))
    return open_store(folder, store, collection or "shitu")


def check_model(known: IndexManifest, extractor: Extractor, place: str) -> None:
    """DataError when the index was made with another model or preprocessing."""
    if known.model and known.model != extractor.fingerprint:
        raise DataError(
            f"{place} was built with another model or preprocessing ({known.model_path or 'not said which'})",
            hint="build it anew with this one: shitu index build",
        )


def _where(index: Path | None, store: str | None, collection: str | None) -> list[str]:
    given = {"--index": index, "--store": store, "--collection": collection}
    return [f"{name} {value}" for name, value in given.items() if value is not None]


def _gallery(
    space: Workspace,
    workspace: Path | None,
    sources: list[str] | None,
    features: Path | None,
    model: Path | None,
    wanted: BuildOptions,
) -> tuple[FeatureTable, BuildOptions]:
    """What is to be indexed; the options with the model that made the vectors."""
    from dataclasses import replace

    from shitu_cli.cli import console
    from shitu_cli.cli.extract import open_extractor
    from shitu_cli.infer.origin import origin_of
    from shitu_cli.retrieval.index.sources import read_features
    from shitu_cli.retrieval.index.store import FeatureTable

    if features is None:
        extractor = open_extractor(workspace, model)
        vectors, pictures = _vectors(extractor, _pictures(space, workspace, sources))
        wanted = replace(wanted, model=extractor.fingerprint, model_path=str(model or space.inference_dir))
        return FeatureTable(vectors, pictures.labels, _paths(space, pictures)), wanted
    table, origin = read_features(features), origin_of(features)
    if model is None and origin is None:
        console.reporter().warn("which model made these vectors is not known: name it with --model")
    elif model is None:
        wanted = replace(wanted, model=origin or "")
    else:
        extractor = open_extractor(workspace, model)
        if extractor.feature_size != table.features.shape[1]:
            raise DataError(
                f"{features}: {table.features.shape[1]} values each, but {model} gives {extractor.feature_size}",
                hint="name the model that made them",
            )
        if origin is not None and origin != extractor.fingerprint:
            raise DataError(f"{features} was made by another model than {model}", hint="leave out --model")
        wanted = replace(wanted, model=extractor.fingerprint, model_path=str(model))
    return table._replace(paths=[_stored(space, path) for path in table.paths]), wanted


def _label_by_folder(pictures: Pictures, sources: Sequence[str]) -> None:
    """Pictures that lie directly in a folder that was named have its name."""
    folders = {os.path.abspath(source) for source in sources if Path(source).is_dir()}
    for n, file in enumerate(pictures.files):
        folder = os.path.dirname(os.path.abspath(file))
        if not pictures.labels[n] and folder in folders:
            pictures.labels[n] = os.path.basename(folder)


def _pictures(space: Workspace, workspace: Path | None, sources: list[str] | None) -> Pictures:
    """What the user names, or the gallery list with the names of its classes."""
    from shitu_cli.cli.extract import own_image_root
    from shitu_cli.data.sources import Pictures, find_pictures

    if sources:
        found = find_pictures(sources, lambda path: own_image_root(workspace, path))
        _label_by_folder(found, sources)
        return found
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
        reporter.warn(
            f"left out as they cannot be read: {counted(len(skipped), 'picture')}, "
            f"such as {next(iter(skipped.values()))}"
        )
    if len(skipped) == len(pictures):
        raise DataError("none of the pictures can be read", details=list(skipped.values())[:10])
    kept = [n for n in range(len(pictures)) if n not in skipped]
    return features[kept], pictures.take(kept)


def _paths(space: Workspace, pictures: Pictures) -> list[str]:
    return [_stored(space, pictures.name(number)) for number in range(len(pictures))]


def _stored(space: Workspace, path: str) -> str:
    """Relative to the workspace while below it, so that it can be moved as a whole; "" where none is known."""
    root, whole = os.path.join(space.root, ""), os.path.abspath(path)
    if not path or not whole.startswith(root):
        return whole if path else ""
    return whole.removeprefix(root).replace(os.sep, "/")


def _show(target: Store, as_json: bool, more: dict[str, Any]) -> None:
    from dataclasses import asdict

    from shitu_cli.cli import console

    known = target.manifest()
    if as_json:
        console.print_json({"index": target.place, **asdict(known), **more})
        return
    labels = f", {counted(more['labels'], 'label')}" if "labels" in more else ""
    text = f"{counted(known.count, 'vector')} of {known.size} values{labels}, {known.kind}"
    if known.recall is not None:
        chosen = ", ".join(f"{key} {value}" for key, value in known.search.items())
        text += f" (finds {known.recall:.2%} of the true neighbours with {chosen})"
    console.reporter().info(f"{target.place}: {text}")
