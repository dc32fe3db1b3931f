"""Find labels that are new to an index; one that is misspelt would split a class in two."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from shitu_cli.index.store import Store

_BETWEEN = re.compile(r"[\s_-]+")


def new_labels(store: Store, labels: Iterable[str]) -> dict[str, str]:
    """Return the labels that an index does not have, each with the label there that may be meant, "" for none.

    The two differ only in case, blanks, hyphens and underscores, or in the folders above, such as apple and
    fruit/apple. Empty for an index on a server, where reading all labels would take long.
    """
    if store.label_count() is None:
        return {}
    old = {item.label for item in store.items()} - {""}
    by_name = {_plain(name): label for label in sorted(old, reverse=True) for name in (label.rpartition("/")[2], label)}
    new = sorted({*labels} - old - {""})
    return {label: by_name.get(_plain(label)) or by_name.get(_plain(label.rpartition("/")[2]), "") for label in new}


def _plain(label: str) -> str:
    return _BETWEEN.sub(" ", unicodedata.normalize("NFKC", label).casefold()).strip()
