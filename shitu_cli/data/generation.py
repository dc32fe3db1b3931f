"""Which run of `prepare` the lists of a workspace are of: all of the same one, or they are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shitu_cli.errors import Command, DataError
from shitu_cli.files import sha256_of
from shitu_cli.inputs import read_json_object
from shitu_cli.workspace import Workspace

NAME = "prepared_with.json"  # in lists/: it belongs to what was made with it
LISTS = ("train_list.txt", "query_list.txt", "gallery_list.txt", "label_map.txt")


def digests_of(space: Workspace, written: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Return the digests of the lists to come and of those that stand in the workspace now.

    `written` maps the name of each list to the file that holds its new content.
    """
    now = {name: sha256_of(path) for name, path in written.items()}
    standing = {name: space.lists_dir / name for name in LISTS}
    before = {
        name: digest
        for name, path in standing.items()
        if path.is_file() and (digest := sha256_of(path)) != now.get(name)
    }
    return {"digests": now, "before": before}


def check_lists(space: Workspace) -> None:
    """Raise DataError when one of the lists is of an earlier `prepare` than the others.

    Lists that the user changed by hand are the user's to answer for, and pass.
    """
    try:
        values = read_json_object(space.lists_dir / NAME)
    except DataError:
        return  # what is missing or damaged is said where it is needed
    now, before = (value if isinstance(value := values.get(key), dict) else {} for key in ("digests", "before"))
    old = []
    for name in LISTS:
        path = space.lists_dir / name
        if before.get(name) not in (None, now.get(name)) and path.is_file() and sha256_of(path) == before[name]:
            old.append(name)
    if old and now:
        raise DataError(
            f"{', '.join(old)} in {space.lists_dir} "
            f"{'is' if len(old) == 1 else 'are'} of an earlier prepare than the other lists",
            hint=["write all of them again: ", Command("prepare", *(values.get("sources") or ()))],
        )
