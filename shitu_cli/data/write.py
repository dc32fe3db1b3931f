"""Putting prepared lists into a workspace, and the config that fits them."""

from __future__ import annotations

import numpy as np

from shitu_cli.config.adapt import DataFacts, adapt_values
from shitu_cli.config.patch import Change, patch_yaml
from shitu_cli.data.lists import write_label_map, write_list
from shitu_cli.data.prepare import Prepared
from shitu_cli.data.remembered import path_in
from shitu_cli.workspace import Workspace, atomic_write


def write_prepared(space: Workspace, made: Prepared, config_text: str, *, template: str | None) -> list[Change]:
    """Write lists, label map and `shitu.yaml`; returns what changed in the config.

    Raises EnvironmentProblem when the disk refuses; what was there before then still stands, file by file.
    """
    facts = DataFacts(
        class_num=made.class_num,
        train_images=len(made.train),
        image_root=path_in(space.root, made.image_root),
        short_side=int(np.median([min(look.width, look.height) for look in made.looks])) if made.looks else 0,
        query_list="lists/query_list.txt" if made.query is not None else None,
        gallery_list="lists/gallery_list.txt" if made.gallery is not None else None,
        evaluated_before=template is not None or (space.lists_dir / "query_list.txt").exists(),
    )
    text, changes = patch_yaml(config_text, adapt_values(config_text, facts, template=template))
    write_list(space.lists_dir / "train_list.txt", made.train)
    for name, part in (("query", made.query), ("gallery", made.gallery)):
        path = space.lists_dir / f"{name}_list.txt"
        if part is not None:
            write_list(path, part)
        else:
            path.unlink(missing_ok=True)
    write_label_map(space.lists_dir / "label_map.txt", made.names)
    if changes or not space.config_path.exists():
        with atomic_write(space.config_path) as file:
            file.write(text.encode("utf-8"))
    return changes
