"""`prepare`: turn labelled images into checked lists and a config that fits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu_cli.config.arguments import COUNT, NATURAL, require, require_flags, several
from shitu_cli.config.patch import Change, patch_yaml
from shitu_cli.config.source import MAX_BYTES
from shitu_cli.data.lists import read_label_map
from shitu_cli.errors import Command, ConfigError, DataError, Message, UsageError
from shitu_cli.files import atomic_write_json
from shitu_cli.inputs import MIB, StrPath, decode_text, read_bytes
from shitu_cli.inputs.yaml_files import parse_yaml
from shitu_cli.journal import apply_committed
from shitu_cli.preparation.audit import LookCache
from shitu_cli.preparation.last_options import PrepareOptions, complete_options
from shitu_cli.preparation.list_digests import RECORD
from shitu_cli.preparation.packing import USUAL_MIB, check_pack_folder
from shitu_cli.preparation.packing import pack as pack_images
from shitu_cli.preparation.prepare import Prepared, read_and_split
from shitu_cli.preparation.reading import check_source
from shitu_cli.preparation.starts import choose_template, start_of
from shitu_cli.preparation.write import write_prepared
from shitu_cli.report.prepare_page import write_prepare_page
from shitu_cli.reporting import Reporter, SilentReporter, counted
from shitu_cli.steps.comparison import compare_labels
from shitu_cli.templates import read_template
from shitu_cli.workspace import CONFIG_NAME, Workspace, enclosing_root, named_root


@dataclass(frozen=True)
class Preparation:
    """The result: the lists, and a config that is new (from `template`, chosen for `reason`) or was changed.

    `start` says what training of a new config starts from.
    """

    workspace: Workspace
    prepared: Prepared
    changes: list[Change]
    template: str | None
    reason: str
    start: Message = ""

    @property
    def config(self) -> Path:
        """The path of the workspace's shitu.yaml, for `load_config`."""
        return self.workspace.config_path


def prepare(
    sources: StrPath | Sequence[StrPath],
    workspace: StrPath | None = None,
    *,
    format: str | None = None,
    columns: str | Mapping[str, str] | None = None,
    protocol: str | None = None,
    image_root: StrPath | None = None,
    split: str | None = None,
    share: float | None = None,
    seed: int | None = None,
    encoding: str | None = None,
    depth: int | None = None,
    keep_apart: bool = False,
    corrections: StrPath | None = None,
    template: str | None = None,
    new_labels: bool = False,
    fix: bool = False,
    strict: bool = False,
    quick: bool = False,
    compare: int | None = None,
    pack: StrPath | None = None,
    pack_mib: int = USUAL_MIB,
    reporter: Reporter | None = None,
    on_checked: Callable[[Prepared], None] = lambda prepared: None,
) -> Preparation:
    """Check images and lists, split them, number the classes and write a config that fits; your data are not changed.

    Args:
        sources: A folder of images, a list of them, or several of these, which become one dataset.
        workspace: The directory to write to; by default $SHITU_WORKSPACE, else the workspace that contains the current
            directory, else the current directory.
        format: Layout of the source (`shitu prepare --formats`); by default it is detected.
        columns: Columns of tables by name, of lists by number: `image=file,label=sku,split=part,box=bbox:xywh`, or
            a dictionary.
        protocol: One of several official splits, such as `dml`.
        image_root: The folder to which paths in lists are relative.
        split: `auto`, `open` (unseen classes for evaluation), `closed` or `none`.
        share: The share to reserve for evaluation, from 0 to 1.
        seed: Another seed reserves other classes or images.
        encoding: The encoding of lists and tables that are not UTF-8.
        depth: How many folder levels name a class.
        keep_apart: Classes of one name in several sources are two; by default they are one.
        corrections: A table `path,label` of images to leave out (no label) or to relabel; "none" forgets the last one.
        template: The config to start from if there is none yet.
        new_labels: Number the classes anew instead of keeping the numbers of the last run.
        fix: Leave out images and lines that cannot be used.
        strict: Treat warnings as errors.
        quick: Read only the headers of images, decode none.
        compare: How many images to compare by features of trained weights, to find wrong labels; 0 for none. By
            default 3,000 where training starts from such weights.
        pack: A folder to write the images to as tar shards, which the lists then name; shards that exist are kept.
        pack_mib: The size of a shard in MiB.
        reporter: Receives progress and warnings; by default they are discarded.
        on_checked: Called with the result of the checks, before anything is written or refused.

    Options that are not given keep their values from the last run on the same sources. Raises DataError if something
    must be fixed first, UsageError if the workspace would be inside the images or would replace lists that shitu did
    not write.
    """
    paths = [Path(source) for source in several(sources)]
    if not paths:
        raise UsageError("no images were named: give a folder or a list", hint=Command("prepare", "./data"))
    require(NATURAL, compare=compare)
    require(COUNT, pack_mib=pack_mib)
    require_flags(keep_apart=keep_apart, new_labels=new_labels, fix=fix, strict=strict, quick=quick)
    root = None if image_root is None else str(image_root)
    corrections = None if corrections is None else str(corrections)
    if isinstance(columns, Mapping):
        columns = ",".join(f"{role}={name}" for role, name in columns.items())
    options = PrepareOptions(
        format, columns, protocol, root, split, share, seed, encoding, depth, keep_apart or None, corrections
    )
    options.choices(fix=fix, quick=quick)  # refuse invalid choices before creating anything
    reporter = reporter or SilentReporter()
    space = _workspace(None if workspace is None else Path(workspace), paths)
    if pack is not None:
        check_pack_folder(Path(pack), paths)
    # A training run reads the lists again when it evaluates and when it is resumed.
    with space.lock("prepare"), space.lock("train", command="prepare"):
        apply_committed(space)  # complete what an interrupted prepare has committed
        all_options, earlier = complete_options(space, paths, options)
        if earlier.typed():
            path = space.lists_dir / RECORD
            reporter.info(
                f"as in the last run: {earlier.typed()}   (stored in {path}; pass another value to change it)"
            )
        choices = all_options.choices(fix=fix, quick=quick)
        text, name, reason = _config_text(space, template)
        start: Message = ""
        if name is not None:
            value, start = start_of(name, text)
            text = text if value is None else patch_yaml(text, {"Arch.Backbone.pretrained": value})[0]
        known_names = {} if new_labels else _known_names(space)
        cache = LookCache(space.cache_dir / "images.bin")
        prepared = read_and_split(
            paths, choices, reporter, known_names=known_names, sample_per_id=_sample_per_id(text), cache=cache
        )
        _compare(prepared, space, text, reporter, 0 if quick else compare)
        on_checked(prepared)

        def write_reports(json_path: Path, page_path: Path) -> None:
            atomic_write_json(json_path, report_values(prepared))
            write_prepare_page(prepared, page_path, paths, str(_correcting(space, paths)))

        count = _problems_to_fix(prepared, fix=fix, strict=strict)
        if count:
            write_reports(space.reports_dir / "prepare.json", space.reports_dir / "prepare.html")
            raise _to_fix(space, count, strict=strict and not prepared.problems.count("error"))
        packed = None if pack is None else pack_images(prepared, Path(pack), pack_mib * MIB, reporter)
        changes = write_prepared(
            space,
            prepared,
            text,
            template=name,
            sources=paths,
            options=all_options,
            write_reports=write_reports,
            packed=packed,
        )
    return Preparation(space, prepared, changes, name, reason, start)


def report_values(prepared: Prepared) -> dict[str, Any]:
    """Return the content of `reports/prepare.json`: how files were read, counts, split and every problem."""
    return {
        "format": prepared.format,
        "read": prepared.rows.readings,
        "label_files": prepared.rows.label_files,
        "not_used": prepared.rows.unused,
        "image_root": str(prepared.image_root),
        "split": prepared.split,
        "class_num": prepared.class_num,
        "train": len(prepared.train),
        "query": len(prepared.query) if prepared.query else 0,
        "gallery": len(prepared.gallery) if prepared.gallery else 0,
        "left_out": prepared.left_out,
        "corrections": prepared.corrections and prepared.corrections.to_json(),
        "labels": prepared.comparison and prepared.comparison.to_json(prepared.rows),
        "problems": prepared.problems.to_json(),
    }


def _compare(prepared: Prepared, space: Workspace, text: str, reporter: Reporter, most: int | None) -> None:
    """Compare the images with their classes by features, if that is wanted and possible, and report it."""
    prepared.comparison = compare_labels(prepared, text, space.cache_dir / "compared.npz", reporter, most=most)
    if prepared.comparison is not None:
        reporter.info(prepared.comparison.describe(len(prepared.rows)))


def _correcting(space: Workspace, sources: Sequence[Path]) -> Command:
    """Return the command that applies the corrections of the page; other options are remembered."""
    words: list[object] = [*sources, *(["--merge"] if len(sources) > 1 else [])]
    if space.root != Path.cwd():
        words += ["-w", space.root]
    return Command("prepare", *words, "--corrections", "corrections.csv")


def _problems_to_fix(prepared: Prepared, *, fix: bool, strict: bool) -> int:
    """Count the problems to fix first; with `fix`, errors are left out instead; with `strict`, warnings count."""
    errors = 0 if fix else prepared.problems.count("error")
    return errors + (prepared.problems.count("warning") if strict else 0)


def _to_fix(space: Workspace, count: int, *, strict: bool) -> DataError:
    """Return the error that says how to continue; `strict`: there are only warnings."""
    way: list[str | Command] = ["leave such images out: ", Command("prepare", "--fix", without=("--strict",))]
    if strict:
        way = ["accept the warnings: ", Command("prepare", without=("--strict",))]
    return DataError(
        f"{counted(count, 'problem')} to fix first; only {space.reports_dir} was written",
        hint=["fix them, or ", *way],
    )


def _workspace(path: Path | None, sources: list[Path]) -> Workspace:
    """Return the workspace: `path`, the one around the current directory, or here; never inside the user's images."""
    root = named_root(path) or enclosing_root() or Path.cwd()
    for source in sources:
        folder = source if source.is_dir() else source.parent
        if folder.exists() and root.resolve().is_relative_to(folder.resolve()) and source.is_dir():
            raise UsageError(
                f"the workspace {root} would be inside your images in {source}",
                hint=["work elsewhere: cd ..  or  ", Command("prepare", source, "-w", "../work")],
            )
        check_source(source)
    _keep_lists_of_others(root, sources)
    return Workspace.create(root)


def _keep_lists_of_others(root: Path, sources: list[Path]) -> None:
    """Raise UsageError if lists would be replaced that this program did not write, or if a source is its own list."""
    lists = root.resolve() / "lists"
    for source in sources:
        if source.resolve() == lists or source.resolve().is_relative_to(lists):
            raise UsageError(
                f"{source} is in the folder where prepare writes its own lists ({lists})",
                hint=["work elsewhere: ", Command("prepare", source, "-w", "../work")],
            )
    if not (root / CONFIG_NAME).is_file():
        names = ("train_list.txt", "query_list.txt", "gallery_list.txt", "label_map.txt")
        existing = [name for name in names if (lists / name).exists()]
        if existing:
            raise UsageError(
                f"{lists / existing[0]} already exists, without a {CONFIG_NAME}: prepare would replace it",
                hint="work elsewhere: -w ../work",
            )


def _config_text(space: Workspace, template: str | None) -> tuple[str, str | None, str]:
    """Return the config to patch, and for a new one the name of its template and the reason."""
    if space.config_path.is_file():
        if template is not None:
            raise UsageError(
                f"{space.config_path} already exists; --template would replace it",
                hint=f"move it away first: mv {space.config_path} {space.config_path}.old",
            )
        # Bytes, not text: line ends and a byte-order mark are preserved.
        data = read_bytes(space.config_path, limit=MAX_BYTES, error=ConfigError)
        decode_text(data, space.config_path, error=ConfigError)
        return data.decode("utf-8"), None, ""
    if template is not None:
        return read_template(template), template, "as requested"
    choice = choose_template()
    return read_template(choice.template), choice.template, choice.reason


def _known_names(space: Workspace) -> dict[str, int]:
    path = space.lists_dir / "label_map.txt"
    return read_label_map(path) if path.is_file() else {}


def _sample_per_id(text: str) -> int:
    try:
        sampler = parse_yaml(text, "shitu.yaml", error=ConfigError)["DataLoader"]["Train"]["sampler"]
        return int(sampler.get("sample_per_id", 1))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return 1
