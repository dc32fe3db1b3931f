"""Check that all lists of a workspace come from the same run of `prepare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shitu_cli.errors import Command, DataError
from shitu_cli.files import sha256_of
from shitu_cli.inputs import read_json_object
from shitu_cli.workspace import Workspace

RECORD = "prepared_with.json"  # in lists/, which it describes
LISTS = ("train_list.txt", "query_list.txt", "gallery_list.txt", "label_map.txt")


def digests_of(space: Workspace, new_lists: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Return the digests of the new lists and of those that are in the workspace now.

    `new_lists` maps the name of each list to the file that holds its new content.
    """
    now = {name: sha256_of(path) for name, path in new_lists.items()}
    current = {name: space.lists_dir / name for name in LISTS}
    before = {
        name: digest
        for name, path in current.items()
        if path.is_file() and (digest := sha256_of(path)) != now.get(name)
    }
    return {"digests": now, "before": before}


def check_lists(space: Workspace) -> None:
    """Raise DataError if some lists come from an earlier `prepare` than the others.

    Lists that the user has edited pass: they are the user's responsibility.
    """
    try:
        values = read_json_object(space.lists_dir / RECORD)
    except DataError:
        return  # whoever needs the file reports that it is missing or damaged
    now, before = (value if isinstance(value := values.get(key), dict) else {} for key in ("digests", "before"))
    outdated = []
    for name in LISTS:
        path = space.lists_dir / name
        if before.get(name) not in (None, now.get(name)) and path.is_file() and sha256_of(path) == before[name]:
            outdated.append(name)
    if outdated and now:
        raise DataError(
            f"{', '.join(outdated)} in {space.lists_dir} "
            f"{'is' if len(outdated) == 1 else 'are'} from an earlier run of prepare than the other lists",
            hint=["write all of them again: ", Command("prepare", *(values.get("sources") or ()))],
        )
