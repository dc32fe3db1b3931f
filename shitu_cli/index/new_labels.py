"""Find labels that are new to an index; one that is misspelt would split a class in two."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from shitu_cli.index.store import Store

_BETWEEN = re.compile(r"[\s_-]+")


def new_labels(store: Store, labels: Iterable[str]) -> dict[str, str]:
    """Return the labels that an index does not have, each with the label there that may be meant, "" for none.

    The two differ only in case, blanks, hyphens and underscores, or one lacks folders that the other has above it, such
    as apple and fruit/apple; red/apple is another. Empty for an index on a server, where reading all labels would take
    long.
    """
    if store.label_count() is None:
        return {}
    old = sorted({item.label for item in store.items()} - {""}, reverse=True)
    whole = {_plain(label): label for label in old}
    ends = {end: label for label in old for end in _ends(label)} | whole
    return {
        label: ends.get(_plain(label)) or next(filter(None, map(whole.get, _ends(label))), "")
        for label in sorted({*labels} - {*old, ""})
    }


def _ends(label: str) -> list[str]:
    """Return a label without any, and without more and more, of the folders above it."""
    parts = label.split("/")
    return [_plain("/".join(parts[start:])) for start in range(len(parts))]


def _plain(label: str) -> str:
    return _BETWEEN.sub(" ", unicodedata.normalize("NFKC", label).casefold()).strip()
