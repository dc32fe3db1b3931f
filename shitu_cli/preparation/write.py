"""Write prepared lists and the config that fits them into a workspace: all at once, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.config.patch import Change, patch_yaml
from shitu_cli.data.lists import write_label_map, write_list
from shitu_cli.files import atomic_write, atomic_write_json
from shitu_cli.journal import transaction
from shitu_cli.preparation.adapt import DataFacts, adapt_values
from shitu_cli.preparation.last_options import PrepareOptions, path_in, record
from shitu_cli.preparation.list_digests import LISTS, RECORD
from shitu_cli.preparation.packing import Packed
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.workspace import Workspace


def write_prepared(
    space: Workspace,
    prepared: Prepared,
    config_text: str,
    *,
    template: str | None,
    sources: Sequence[Path],
    options: PrepareOptions,
    write_reports: Callable[[Path, Path], None],
    packed: Packed | None = None,
) -> list[Change]:
    """Write lists, label map, config, the record of the options, and the reports; return the changes of the config.

    With `packed` shards the lists name their members. `write_reports` writes reports/prepare.json and
    reports/prepare.html to the two paths that it is given. A kill at any moment leaves all of these files as they were,
    or all of them new once the workspace is opened again.

    Raises EnvironmentProblem if the disk refuses, and then changes nothing.
    """
    facts = DataFacts(
        class_num=prepared.class_num,
        train_images=len(prepared.train),
        image_root=path_in(space.root, prepared.image_root if packed is None else packed.root),
        short_side=int(np.median([min(look.width, look.height) for look in prepared.looks])) if prepared.looks else 0,
        query_list="lists/query_list.txt" if prepared.query is not None else None,
        gallery_list="lists/gallery_list.txt" if prepared.gallery is not None else None,
        evaluated_before=template is not None or (space.lists_dir / "query_list.txt").exists(),
    )
    text, changes = patch_yaml(config_text, adapt_values(config_text, facts, template=template))
    parts = dict(zip(LISTS, (prepared.train, prepared.query, prepared.gallery), strict=False))
    with transaction(space) as change:
        written: dict[str, Path] = {}
        for name, part in parts.items():
            if part is None:
                change.remove(space.lists_dir / name)
                continue
            written[name] = change.path(space.lists_dir / name)
            write_list(written[name], part if packed is None else packed.renamed(part))
        label_map = LISTS[-1]
        written[label_map] = change.path(space.lists_dir / label_map)
        write_label_map(written[label_map], prepared.names)
        atomic_write_json(change.path(space.lists_dir / RECORD), record(space, sources, options, written))
        if changes or not space.config_path.exists():
            with atomic_write(change.path(space.config_path)) as file:
                file.write(text.encode("utf-8"))
        write_reports(change.path(space.reports_dir / "prepare.json"), change.path(space.reports_dir / "prepare.html"))
    return changes
