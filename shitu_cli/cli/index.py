"""`shitu index build|add|remove|show|export`: the vector index of a gallery, in a directory or in Milvus."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.errors import DataError, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.index.store import IndexManifest, Store
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
FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        help="Take vectors from a file of shitu extract, or from another program's vector.index.",
        show_default=False,
    ),
]

group = typer.Typer(help="Build and change the vector index of a gallery.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="index")


@group.command()
def build(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders (label: the folder a picture lies in) or lists; default: the gallery list only.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="flat (exact), hnsw, ivf or binary.")] = "flat",
    recall: Annotated[float, typer.Option(min=0.1, max=1.0, help="What hnsw and ivf must find of the truth.")] = 0.99,
    features: FeaturesOption = None,
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
    from shitu_cli.cli.gallery import Asked, gallery
    from shitu_cli.index.store import BuildOptions

    console.configure(as_json=as_json)
    _one_of(sources, features)
    space = open_workspace(workspace, named=_all_named(index, store, sources, features, model))
    with closing(open_index(space, index, store, collection, model)) as target, target.writing():
        target.check(BuildOptions(kind, recall))
        made = gallery(space, sources, features, Asked(workspace, model))
        wanted = BuildOptions(kind, recall, model=made.model, model_path=made.model_path)
        target.build(made.table, wanted, console.reporter())
        _show(target, as_json, {"labels": len({*made.table.labels} - {""})})
    console.next_step(" ".join(["shitu search photo.jpg --top 5", *_where(index, store, collection, model)]))


@group.command()
def add(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders (label: the folder a picture lies in) or lists.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label of all these pictures.")] = None,
    features: FeaturesOption = None,
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
    from shitu_cli.cli.gallery import Asked, gallery

    console.configure(as_json=as_json)
    _one_of(sources, features)
    if not sources and features is None:
        raise UsageError("nothing was named", hint="shitu index add new_pictures/, or --features features.npy")
    space = open_workspace(workspace, named=_all_named(index, store, sources, features, model))
    with closing(open_index(space, index, store, collection, model)) as target, target.writing():
        known = target.manifest()
        asked = Asked(workspace, model, label, named=True, check=lambda made: check_model(known, made, target.place))
        made = gallery(space, sources, features, asked)
        replaced = target.add(made.table, console.reporter())
        added = len(made.table.labels) - replaced
        console.reporter().info(f"added {added:,}" + (f", replaced {replaced:,}" if replaced else ""))
        _show(target, as_json, {"added": added, "replaced": replaced})


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
    from shitu_cli.cli.gallery import stored

    console.configure(as_json=as_json)
    space = open_workspace(workspace, named=index is not None or store is not None)
    if not (paths or label or id):
        raise UsageError("nothing was named", hint="give paths, --label NAME or --id N")
    names = {path: {path, stored(space, path)} for path in paths or ()}
    with closing(open_index(space, index, store, collection)) as target, target.writing():
        found = target.find([name for both in names.values() for name in both], label or (), id or ())
        absent = [str(n) for n in id or () if n not in {item.id for item in found}]
        absent += [name for name in label or () if name not in {item.label for item in found}]
        absent += [path for path, both in names.items() if not both & {item.path for item in found}]
        if absent:
            raise UsageError(f"not in the index: {', '.join(absent)}", hint="shitu index show --json")
        target.remove([item.id for item in found], console.reporter())
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
        more: dict[str, Any] = {"labels": len({item.label for item in items} - {""})}
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
    from shitu_cli.index.files import export_index, load_index

    changed = export_index(load_index(index or open_workspace(workspace).index_dir), out)
    if changed:
        console.reporter().warn(
            f"blanks in {counted(len(changed), 'label')} became underscores, such as {changed[0]!r}"
        )
    console.reporter().info(f"{out}: vector.index with id_map.pkl for PaddleClas and id_map.yaml for PaddleX")


def open_index(
    space: Workspace | None, index: Path | None, store: str | None, collection: str | None, model: Path | None = None
) -> Store:
    """The store that the options name; the workspace's own directory when they name none."""
    from shitu_cli.cli import console
    from shitu_cli.index import open_store

    if index is not None and store is not None:
        raise UsageError("--index and --store both say where the index is", hint="give one of them")
    if collection is not None and store is None:
        raise UsageError("--collection is for an index in Milvus", hint="--store milvus:http://host:19530")
    console.configure(index=_where(index, store, collection, model))
    folder = index or (space.index_dir if space is not None else Path("index"))
    return open_store(folder, store, collection or "shitu")


def _one_of(sources: list[str] | None, features: Path | None) -> None:
    if sources and features is not None:
        raise UsageError("pictures and --features both say what to index", hint="give one of them")


def _all_named(
    index: Path | None, store: str | None, sources: list[str] | None, features: Path | None, model: Path | None
) -> bool:
    """Whether no workspace is needed: options say where the index is, and what comes into it by which model."""
    return (index is not None or store is not None) and (features is not None or bool(sources and model))


def check_model(known: IndexManifest, model: str, place: str) -> None:
    """DataError when the index was made with another model or preprocessing than the one of this fingerprint."""
    if known.model and model and known.model != model:
        raise DataError(
            f"{place} was built with another model or preprocessing ({known.model_path or 'not said which'})",
            hint="build it anew with this one: shitu index build",
        )


def _where(index: Path | None, store: str | None, collection: str | None, model: Path | None) -> list[str]:
    """The options again, for the next command and for hints."""
    given = {"--index": index, "--store": store, "--collection": collection, "--model": model}
    return [f"{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]


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
