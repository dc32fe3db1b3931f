"""Dense labels for the names of classes, and lists of images that carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shitu_cli.data.lists import ImageList, is_distractor
from shitu_cli.inputs import whole_number
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.split import Split


def natural(label: str) -> tuple[int, int, str]:
    """Return what orders labels: numbers by value, before names."""
    number = whole_number(label, signed=True)
    return (1, 0, label) if number is None else (0, number, label)


def number_classes(rows: Rows, split: Split, earlier: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return class name → dense label, and the number of classes that a head needs (largest training label plus one).

    Classes numbered earlier keep their number, then come new ones that are trained, then those only evaluated.
    """
    names = dict(earlier)
    following = max(names.values(), default=-1) + 1
    trained, query, gallery = (
        set(map(rows.labels.__getitem__, part)) for part in (split.train, split.query, split.gallery)
    )
    evaluated = query | gallery
    for label in [*sorted(trained, key=natural), *sorted(evaluated - trained, key=natural)]:
        name = rows.shown(label)
        if not is_distractor(label) and name not in names:
            names[name] = following
            following += 1
    return names, max(names[rows.shown(label)] for label in trained) + 1


def image_list(rows: Rows, numbers: Sequence[int], names: Mapping[str, int], ids: Mapping[int, int]) -> ImageList:
    """Return the rows at `numbers` as a list for training or evaluation; `ids` come from `number_ids`."""
    of_class = list(map(rows.labels.__getitem__, numbers))
    labels = {label: -1 if is_distractor(label) else names[rows.shown(label)] for label in set(of_class)}
    boxes = None
    if rows.boxes:
        boxes = np.full((len(numbers), 4), np.nan, np.float32)
        for at, n in enumerate(numbers):
            if n in rows.boxes:
                boxes[at] = rows.boxes[n]
    own_ids = [ids.get(n, -1) for n in numbers] if ids and any(n in ids for n in numbers) else None
    paths = list(map(rows.paths.__getitem__, numbers))
    return ImageList.of(paths, [labels[label] for label in of_class], own_ids, boxes)


def number_ids(rows: Rows) -> dict[int, int]:
    """Return ids as numbers, the same in all lists: numbers are kept, names are numbered from one million on."""
    dense: dict[str, int] = {}
    return {
        number: 10**6 + dense.setdefault(text, len(dense)) if (own := whole_number(text)) is None else own
        for number, text in rows.ids.items()
    }
