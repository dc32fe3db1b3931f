"""Read values of other tools' JSON as the expected types, and choose the attribute that is the class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shitu_cli.errors import UsageError

_CLASS_WORDS = {"class", "label", "labels", "category", "class_name", "label_name", "name", "type", "object", "species"}


def label_text(value: object) -> str:
    """Return a label as text: whole numbers and names, "" for what can be neither."""
    if type(value) is int:
        return str(value)
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    return str(int(value)) if float(value).is_integer() else str(value)


def is_number(text: str) -> bool:
    """Return whether a short text spells a number."""
    try:
        float(text)
    except ValueError:
        return False
    return len(text) <= 40


def choose_attribute(examples: dict[str, str], given: str | None, where: str, role: str = "label") -> str | None:
    """Return the attribute that holds the class, None if there are no attributes.

    Args:
        examples: Attributes with a value of each.
        given: The one that the user named.
        where: The file, for errors.
        role: Its role in --columns.

    Raises UsageError if several may hold it, or the one given is not there.
    """
    shown = [f"{name}: {value!r}" for name, value in examples.items()]
    if given is not None:
        if given not in examples:
            raise UsageError(f"{where}: no attribute {given!r}; there are {', '.join(examples)}", details=shown)
        return given
    if len(examples) <= 1:
        return next(iter(examples), None)
    likely = [name for name in examples if name.casefold() in _CLASS_WORDS]
    if len(likely) == 1:
        return likely[0]
    raise UsageError(
        f"{where}: which of {', '.join(likely or examples)} is the {'class' if role == 'label' else role}?",
        details=shown,
        hint=f"name it, as in: --columns {role}={(likely or list(examples))[0]}",
    )


def objects(value: object) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON list with their numbers from 0; nothing for any other value."""
    return ((number, item) for number, item in enumerate(list_of(value)) if isinstance(item, dict))


def object_of(value: Any) -> dict[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """Return a JSON list, or an empty one for anything else."""
    return value if isinstance(value, list) else []
