"""`shitu index build|add|remove|show|export`: the vector index of a gallery, in a directory or in Milvus."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.config.arguments import RECALL
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.reporting import counted

if TYPE_CHECKING:
    from shitu_cli.index.store import Store
    from shitu_cli.steps.gallery import GallerySource

HELP = "Build and change the vector index of a gallery."
WHAT = "What is indexed"

CLASSES_SHOWN = 100
EXACT = ("flat", "binary")  # kinds that miss no neighbour
LABELS_SHOWN = 5  # of those that are new
NO_LABEL = "(no label)"
EMPTY = "holds no vectors: this part of the images was empty, or none of them could be read"

FeaturesOption = Annotated[
    Path | None,
    option(WHAT, "Take vectors from a file or a shard of shitu extract, or from another program's vector.index."),
]


def build(
    context: typer.Context,
    sources: Annotated[list[str] | None, argument(f"{options.SOURCES[:-1]}; by default the gallery list.")] = None,
    kind: Annotated[str, option(WHAT, "flat (exact), hnsw, ivf or binary.")] = "flat",
    recall: Annotated[
        float, option(WHAT, "Share of the true nearest neighbours that hnsw and ivf must find.", within=RECALL)
    ] = 0.99,
    features: FeaturesOption = None,
    detector: options.DetectorOption = None,
    detector_threshold: options.DetectorThresholdOption = None,
    index: options.IndexOption = None,
    store: options.StoreOption = None,
    collection: options.CollectionOption = None,
    model: options.ModelOption = None,
    pretrained: options.PretrainedOption = None,
    workspace: options.WorkspaceOption = None,
    dry_run: options.DryRunOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Index the gallery list, or the images that are named; replaces an existing index."""
    from shitu_cli.index.store import BuildOptions
    from shitu_cli.steps.gallery import GallerySource, collect_gallery
    from shitu_cli.steps.measured_threshold import block_for_index

    session = Session.of(context)
    console = session.console
    _refuse_conflicts(sources, features, detector)
    if kind in EXACT:
        session.refuse("--recall", why=f"--kind {kind} compares all vectors", hint="leave it out, or give --kind hnsw")
    model = opening.chosen_model(session, model, pretrained, dry_run=dry_run)
    optional = pretrained is not None or _names_everything(index, store, sources, features, model)
    space = opening.open_workspace(
        session, optional=optional, instead=["say where: ", Command("index build", "--index", "index/")]
    )
    if dry_run:
        if features is not None:
            raise UsageError(
                "--dry-run measures how long computing features takes; with --features they are computed already"
            )
        finder = opening.open_detector(session, detector, detector_threshold)
        source = GallerySource(space, opening.config_or_none(session, model), model, detector=finder, reporter=console)
        place = None if store is not None else index or space.index_dir
        _show_cost(console, source, sources, place, kind)
        return
    with closing(opening.chosen_index(space, index, store, collection)) as target, target.writing():
        target.check(BuildOptions(kind, recall))
        config = opening.config_or_none(session, model or features)
        finder = opening.open_detector(session, detector, detector_threshold)
        content = collect_gallery(
            sources, features, GallerySource(space, config, model, detector=finder, reporter=console)
        )
        if not len(content.table.labels):
            raise DataError(f"{features} {EMPTY}", hint="build the index from another part first, then add the others")
        measured = block_for_index(space.reports_dir, content.model)
        target.build(content.table, BuildOptions(kind, recall, content.model, content.model_path, measured), console)
        _show(console, target, {"labels": len({*content.table.labels} - {""})})
    console.next_step(Command("search", "photo.jpg"))


def _show_cost(
    console: Console, source: GallerySource, sources: list[str] | None, place: Path | None, kind: str
) -> None:
    from shitu_cli.cli.dry_run import show_cost
    from shitu_cli.steps.gallery import images_to_index
    from shitu_cli.steps.image_costs import cost_of_index

    images, _ = images_to_index(source, sources)
    show_cost(console, cost_of_index(source.extractor(), images, place, kind, source.detector))


def add(
    context: typer.Context,
    sources: Annotated[list[str] | None, argument(options.SOURCES)] = None,
    label: Annotated[str | None, option(WHAT, "The label of all these images.")] = None,
    features: FeaturesOption = None,
    detector: options.DetectorOption = None,
    detector_threshold: options.DetectorThresholdOption = None,
    index: options.IndexOption = None,
    store: options.StoreOption = None,
    collection: options.CollectionOption = None,
    model: options.ModelOption = None,
    pretrained: options.PretrainedOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Add images to the index; images that it already holds are replaced."""
    from shitu_cli.config.places import Places
    from shitu_cli.index.new_labels import new_labels
    from shitu_cli.steps.gallery import GallerySource, collect_gallery
    from shitu_cli.steps.models import model_of_index

    session = Session.of(context)
    console = session.console
    _refuse_conflicts(sources, features, detector)
    if not sources and features is None:
        raise UsageError(
            "no images were named", hint=[Command("index add", "new_images/"), ", or --features features.npy"]
        )
    model = opening.chosen_model(session, model, pretrained)
    space = opening.workspace_of_index(session, optional=index is not None or store is not None)
    with closing(opening.chosen_index(space, index, store, collection)) as target, target.writing():
        manifest = target.manifest()
        recorded = Path(manifest.model_path) if manifest.model_path else None
        config = opening.config_or_none(session, model or features or recorded)
        model = (
            model_of_index(Places.of(config) if config else None, model, manifest.model_path, target.place)
            if features is None
            else model
        )
        source = GallerySource(
            space,
            config,
            model,
            label,
            requires_labels=True,
            detector=opening.open_detector(session, detector, detector_threshold),
            check=lambda fingerprint: opening.check_model(
                manifest, fingerprint, target.place, features or model or "the model of the workspace"
            ),
            reporter=console,
        )
        table = collect_gallery(sources, features, source).table
        if not len(table.labels):
            console.info(f"{features} {EMPTY}")
        fresh = new_labels(target, table.labels)
        replaced = target.add(table, console) if len(table.labels) else 0
        added = len(table.labels) - replaced
        console.info(f"added {added:,}" + (f", replaced {replaced:,}" if replaced else ""))
        _show_new(console, fresh, len({*table.labels}))
        _show(console, target, {"added": added, "replaced": replaced})
    console.next_step(Command("search", "photo.jpg"))


def remove(
    context: typer.Context,
    paths: Annotated[list[str] | None, argument("Images to remove, by their paths.")] = None,
    label: Annotated[list[str] | None, option(WHAT, "Remove a whole class.")] = None,
    unlabelled: Annotated[
        bool, option(WHAT, "Remove all images without a label, (no label) in shitu index show.", "--unlabelled")
    ] = False,
    id: Annotated[list[int] | None, option(WHAT, "Remove the image with this id.", low=0, high=2**63 - 1)] = None,
    index: options.IndexOption = None,
    store: options.StoreOption = None,
    collection: options.CollectionOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Remove images from the index, by path, label or id."""
    from shitu_cli.steps.gallery import stored_path

    session = Session.of(context)
    console = session.console
    space = opening.workspace_of_index(session, optional=index is not None or store is not None)
    labels = [*(label or ()), *([""] if unlabelled else [])]
    if not (paths or labels or id):
        raise UsageError("no images were named", hint="give paths, --label NAME, --unlabelled or --id N")
    # As it is from here, else as the index shows it, which may be another image's path from here.
    names = {path: (stored_path(space, path), path) for path in paths or ()}
    with closing(opening.chosen_index(space, index, store, collection)) as target, target.writing():
        items = target.find([name for spellings in names.values() for name in spellings], labels, id or ())
        absent = [str(n) for n in id or () if n not in {item.id for item in items}]
        absent += [name or NO_LABEL for name in labels if name not in {item.label for item in items}]
        there = {item.path for item in items}
        chosen = {path: next((name for name in spellings if name in there), None) for path, spellings in names.items()}
        absent += [path for path, name in chosen.items() if name is None]
        if absent:
            from shitu_cli.index.new_labels import new_labels

            near = [other for other in new_labels(target, labels).values() if other]
            hint = Command("index remove", "--label", near[0]) if near else Command("index show", "--json")
            raise UsageError(f"not in the index: {', '.join(absent)}", hint=hint)
        meant = {*chosen.values()}
        items = [item for item in items if item.path in meant or item.label in labels or item.id in (id or ())]
        target.remove([item.id for item in items], console)
        console.info(f"removed {len(items):,}")
        _show(console, target, {"removed": len(items)})
    console.next_step(Command("search", "photo.jpg"))


def show(
    context: typer.Context,
    index: options.IndexOption = None,
    store: options.StoreOption = None,
    collection: options.CollectionOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what the index holds, class by class; with --json every item."""
    session = Session.of(context)
    console = session.console
    space = opening.workspace_of_index(session) if index is None and store is None else None
    with closing(opening.chosen_index(space, index, store, collection)) as target:
        target.manifest()  # is there one?
        items = list(target.items())
        counts = Counter(item.label for item in items)
        more: dict[str, Any] = {"labels": len(counts.keys() - {""})}
        if console.as_json:
            more |= {"classes": dict(sorted(counts.items())), "items": [asdict(item) for item in items]}
        _show(console, target, more)
    if not console.as_json:
        _show_classes(console, counts)
    console.next_step(Command("search", "photo.jpg"))


def export(
    context: typer.Context,
    out: Annotated[Path, argument("New directory.")],
    index: options.IndexOption = None,
    workspace: options.WorkspaceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write the index for PaddleClas's and PaddleX's pipelines: vector.index, id_map.pkl, id_map.yaml."""
    from shitu_cli.index.files import export_index, load_index

    session = Session.of(context)
    console = session.console
    changed = export_index(load_index(index or opening.workspace_of_index(session).index_dir), out)
    if changed:
        console.warn(f"{counted(len(changed), 'label')} with spaces got underscores instead, such as {changed[0]!r}")
    if as_json:
        console.json({"directory": str(out), "changed_labels": changed})
    console.info(f"{out}: vector.index with id_map.pkl for PaddleClas and id_map.yaml for PaddleX")


def _refuse_conflicts(sources: list[str] | None, features: Path | None, detector: Path | None) -> None:
    if sources and features is not None:
        raise UsageError("images and --features both choose what to index", hint="give one of them")
    if features is not None and detector is not None:
        raise UsageError(
            "--detector cuts things out of images, but the vectors of --features are computed already",
            hint=["compute them with the detector: ", Command("extract", "./photos", "--detector", detector)],
        )


def _names_everything(
    index: Path | None, store: str | None, sources: list[str] | None, features: Path | None, model: Path | None
) -> bool:
    """Return whether no workspace is needed: options name the index, its content and its model."""
    return (index is not None or store is not None) and (features is not None or bool(sources and model))


def _show_new(console: Console, labels: dict[str, str], added: int) -> None:
    """Say which labels are new in the index, of `added` ones, and which may be another spelling of an older one."""
    if labels:
        more = f", and {len(labels) - LABELS_SHOWN:,} more" if len(labels) > LABELS_SHOWN else ""
        console.info(f"new in the index: {', '.join([*labels][:LABELS_SHOWN])}{more}")
    for label, near in [(label, near) for label, near in labels.items() if near][:LABELS_SHOWN]:
        way: list[str | Command] = [Command("index add", "--label", near)]
        if added > 1:  # --label would give all images this one
            way = [Command("index remove", "--label", label), f", then add its images alone with --label {near!r}"]
        console.warn([f"{label!r} is a new label, but {near!r} is already in the index; if both mean the same: ", *way])


def _show_classes(console: Console, counts: Counter[str]) -> None:
    """Print how many images each label has, in the order of labels."""
    rows = [[label or NO_LABEL, count] for label, count in sorted(counts.items())]
    console.table("", ["label", "images"], rows[:CLASSES_SHOWN])
    if len(rows) > CLASSES_SHOWN:
        console.info(f"and {len(rows) - CLASSES_SHOWN:,} more labels; --json lists all")


def _show(console: Console, target: Store, more: dict[str, Any]) -> None:
    manifest = target.manifest()
    if console.as_json:
        console.json({"index": target.place, **asdict(manifest), **more})
        return
    labels = f", {counted(more['labels'], 'label')}" if "labels" in more else ""
    text = f"{counted(manifest.count, 'vector')} of {manifest.size} values{labels}, {manifest.kind}"
    if manifest.recall is not None:
        parameters = ", ".join(f"{key} {value}" for key, value in manifest.search.items())
        text += f" (finds {manifest.recall:.2%} of the true neighbours with {parameters})"
    console.info(f"{target.place}: {text}")


BELOW = {"build": build, "add": add, "remove": remove, "show": show, "export": export}
