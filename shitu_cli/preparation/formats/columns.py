"""Decide which columns of a table or list are image, label, split, camera and box, by their names and values.

If the names do not decide and two columns could be the label, the error names both: a wrong column would train a wrong
model without any warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shitu_cli.errors import UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.preparation.formats.boxes import CONVENTIONS, Convention, box_columns, plain_name
from shitu_cli.preparation.formats.column_names import (
    BOX_NAMES,
    CAMERA_NAMES,
    CERTAINTIES,
    EXCLUDES,
    ID_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    NO_LABELS,
    OTHER_LABELS,
    PARTS,
)
from shitu_cli.preparation.formats.image_cells import refuse_matches, refuse_several
from shitu_cli.preparation.formats.sample import Sample
from shitu_cli.preparation.formats.source import plain_path
from shitu_cli.preparation.formats.splits import MARKS, SPLIT_NAMES, WORDS, splits_of_values
from shitu_cli.reporting import short_list

ROLES = ("image", "label", "split", "id", "camera", "box")


@dataclass
class Columns:
    """Positions of the columns by role, None for roles without a column; `names` are the names of all columns.

    `display` is a column of names for a label of numbers. `box` is four columns or one that holds four numbers, and
    `convention` their meaning, None if unknown. `one_hot` are columns of zeros and a one, each named after its class.
    `remarks` are shown to the user.
    """

    names: list[str]
    image: int
    label: int | None = None
    display: int | None = None
    split: int | None = None
    splits: Mapping[str, str] = field(default_factory=lambda: WORDS)  # by value of that column
    marks: Mapping[str, int] = field(default_factory=dict)  # query and gallery → the column that is true for its rows
    id: int | None = None
    box: list[int] = field(default_factory=list)
    convention: Convention | None = None
    one_hot: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Return the roles of the columns for the user: `image = file, class = sku`."""
        parts = [f"image = {self.names[self.image]}"]
        if self.one_hot:
            parts.append(f"class = the one of {len(self.one_hot)} columns that is 1")
        elif self.label is not None:
            named = f" (named by {self.names[self.display]})" if self.display is not None else ""
            parts.append(f"class = {self.names[self.label]}{named}")
        if self.box:
            meaning = self.convention.text if self.convention else "?"
            parts.append(f"box = {', '.join(self.names[n] for n in self.box)} ({meaning})")
        if self.split is not None:
            parts.append(f"split = {self.names[self.split]}")
        parts += [f"{split} = {self.names[n]}" for split, n in self.marks.items()]
        if self.id is not None:
            parts.append(f"camera or sequence = {self.names[self.id]}")
        return ", ".join([*parts, *self.remarks])


def _file_name(path: str) -> str:
    return plain_path(path).rpartition("/")[2]


class Decision:
    """The decision about the columns of one table, step by step; `free` are those that have no role yet.

    Args:
        names: Names of the columns.
        rows: A sample of the rows.
        chosen: Role to name of a column, as the user says.
        place: The file, for errors.
        example: The line number of the first of the rows, for errors.

    Raises UsageError if the user's columns do not exist.
    """

    def __init__(
        self,
        names: Sequence[str],
        rows: Sequence[Sequence[str]],
        chosen: Mapping[str, str],
        place: str,
        example: int,
    ) -> None:
        self.names, self.place, self.example = list(names), place, example
        self.plain = [plain_name(name) for name in names]
        self.sample = Sample(rows, len(names))
        self.box = chosen.get("box")
        self.chosen = {role: self._position(name) for role, name in chosen.items() if role != "box"}
        self.free = [n for n in range(len(names)) if n not in self.chosen.values()]

    def columns(self, is_image: Callable[[str], bool]) -> Columns | None:
        """Return what the columns are; None if none of them has values of which `is_image` says that they are images.

        Raises UsageError if two columns could be the image or the label.
        """
        image = self.chosen["image"] if "image" in self.chosen else self._image(is_image)
        if image is None:
            return None
        refuse_several(self.sample.values(image), is_image, self.place, self.names[image])
        columns = Columns(self.names, image)
        self._take(image)
        columns.box, columns.convention = self._box()
        self._take(*columns.box)
        self._decide_split(columns)
        self._take(columns.split)
        columns.marks = {MARKS[self.plain[n]]: n for n in self.free if self.plain[n] in MARKS}
        self._take(*columns.marks.values())
        columns.label = self.chosen.get("label")
        if columns.label is None:
            self._decide_label(columns)
            if (label := columns.label) is not None:
                refuse_matches(self.sample.values(label), is_image, self.place, self.names[label])
        if columns.label is not None:
            self._take(columns.label, columns.display)
            self._decide_id(columns)
            columns.remarks += [f"{self.names[n]} is not used: rows where it is 0 count too" for n in self._doubts()]
            columns.remarks += [
                f"{self.names[n]} is not used: rows count whatever it says"
                for n in self.free
                if self.plain[n].removeprefix("is") in EXCLUDES and len(set(self.sample.values(n))) > 1
            ]
            parts = [self.names[n] for n in self.free if PARTS.search(self.plain[n]) or self.sample.lists(n)]
            if parts and not columns.box:
                columns.remarks.append(f"{short_list(parts, 4)} not used: whole images are read")
        return columns

    def _take(self, *columns: int | None) -> None:
        self.free = [n for n in self.free if n not in columns]

    def _position(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        if (number := whole_number(name)) is not None and 1 <= number <= len(self.names):
            return number - 1
        raise UsageError(f"{self.place}: no column {name!r}; there are {', '.join(self.names)}")

    def _image(self, is_image: Callable[[str], bool]) -> int | None:
        """Return the column with most values naming existing images; else one whose values look like images."""
        sample, plain = self.sample, self.plain
        hits = []
        for column in range(len(plain)):
            values = sample.values(column)[:200]
            count = sum(map(is_image, values))
            if count and count >= (0.5 if sample.images(column) else 0.9) * len(values):
                hits.append(column)
        by_name = [n for n in hits if plain[n] in IMAGE_NAMES]
        if len(by_name) == 1 or len({tuple(map(_file_name, sample.columns[n])) for n in hits}) == 1:
            return min(by_name or hits, key=lambda n: "://" in sample.columns[n][0])
        if hits:
            raise UsageError(
                f"{self.place}: which column is the image? {' and '.join(self.names[n] for n in hits)} lead to images",
                details=[f"{self.place}:{self.example}: {self.names[n]} = {sample.columns[n][0]!r}" for n in hits],
                hint=f"--columns image={self.names[hits[0]]} or --columns image={self.names[hits[-1]]}; "
                "or, to use all of them, a row for each image",
            )
        alike = [n for n in range(len(plain)) if sample.values(n) and sample.images(n)]
        return next((n for n in alike if plain[n] in IMAGE_NAMES), alike[0] if alike else None)

    def _box(self) -> tuple[list[int], Convention | None]:
        """Return the columns of the box, and what their numbers mean as far as names say it."""
        by_name = box_columns(self.names)
        if self.box is not None:
            name, _, meaning = self.box.partition(":")
            box = [self._position(part) for part in name.split("+")]
            if len(box) not in (1, 4):
                raise UsageError(f"{self.place}: --columns box={self.box}: expected one column, or four joined by +")
            if not meaning:
                return box, by_name[1] if by_name is not None and by_name[0] == box else None
            return box, self._convention(meaning)
        if by_name is not None:
            numbers = all(self.sample.numeric(n) or not self.sample.values(n) for n in by_name[0])
            return by_name if numbers else ([], None)
        return [n for n in self.free if self.plain[n] in BOX_NAMES][:1], None

    def _convention(self, meaning: str) -> Convention:
        for convention in CONVENTIONS:
            if convention.name == meaning:
                return convention
        names = ", ".join(f"{c.name} ({c.text})" for c in CONVENTIONS)
        raise UsageError(f"{self.place}: --columns box=...:{meaning}: expected one of {names}")

    def _decide_split(self, columns: Columns) -> None:
        for n in [self.chosen["split"]] if "split" in self.chosen else self.free:
            beside_label = "label" in self.chosen or any(map(self._is_class_beside_flags, {*self.free} - {n}))
            splits = splits_of_values(self.plain[n], self.sample.values(n), beside_label=beside_label)
            if splits or "split" in self.chosen:
                columns.split, columns.splits = n, splits or WORDS
                return
            if self.plain[n] in SPLIT_NAMES:
                columns.remarks.append(f"{self.names[n]} does not hold splits such as train or val: not used")

    def _is_class_beside_flags(self, n: int) -> bool:
        """Return whether a column may be the class; of columns of zeros and ones, `train` may be one more class."""
        is_named = any(self.plain[n] in tier for tier in LABEL_NAMES)
        return self.sample.could_be_label(n) and (is_named or not self.sample.bits(n))

    def _decide_label(self, columns: Columns) -> None:
        """Set the label and its names, or the columns of zeros and a one; UsageError if several could be it."""
        sample, plain = self.sample, self.plain
        free = [n for n in self.free if any(sample.columns[n]) and not sample.images(n)]
        for tier in LABEL_NAMES:
            if by_name := [n for n in free if plain[n] in tier and (plain[n] != "y" or len(self.names[n]) == 1)]:
                # Of a category and its subcategory, either may be the class.
                finer = [n for n in free if plain[n].startswith("sub") and plain[n].removeprefix("sub") in tier]
                self._choose(columns, by_name + finer + self._versions(by_name, free))
                self._name_numbers(columns, free)
                return
        if len(free) >= 2 and all(map(sample.bits, free)):
            columns.one_hot = free
            return
        rest = [n for n in free if plain[n] and plain[n] not in NO_LABELS and not plain[n].startswith("unnamed")]
        able = [n for n in rest if sample.could_be_label(n)]
        if not able and len(rest) == 1 and sample.could_be_only_label(rest[0]):
            able = rest
        if able:
            self._choose(columns, able)
            self._name_numbers(columns, able)

    def _versions(self, named: Sequence[int], free: Sequence[int]) -> list[int]:
        """Return columns that give some images another of the same classes, and whose names are those of labels too."""
        sample, classes = self.sample, {value for n in named for value in self.sample.values(n)}
        return [
            n
            for n in free
            if n not in named
            and OTHER_LABELS.match(self.plain[n])
            and 2 * len(classes.intersection(sample.values(n))) > len(set(sample.values(n)))
            and not any(sample.follows(n, other) for other in named)
        ]

    def _choose(self, columns: Columns, candidates: Sequence[int]) -> None:
        """Set the label, if all candidates hold the same classes (as numbers and as names)."""
        different: list[int] = []
        for n in candidates:
            if not any(self.sample.same(other, n) for other in different):
                different.append(n)
        if len(different) > 1:
            values = self.sample.columns
            raise UsageError(
                f"{self.place}: which column is the class? {' or '.join(self.names[n] for n in different)}",
                details=[
                    f"{self.names[n]}: {len(set(self.sample.values(n))):,} different values, line {self.example} is "
                    f"{values[n][0]!r}"
                    for n in different
                ],
                hint=" or ".join(
                    f"--columns image={self.names[columns.image]},label={self.names[n]}" for n in different[:2]
                ),
            )
        columns.label = different[0]

    def _name_numbers(self, columns: Columns, candidates: Sequence[int]) -> None:
        """Set the column that names the classes in words, where the label is a number."""
        label, sample = columns.label, self.sample
        if label is not None and sample.numeric(label):
            words = (n for n in candidates if n != label and not sample.numeric(n))
            columns.display = next((n for n in words if sample.could_be_label(n) and sample.same(label, n)), None)

    def _doubts(self) -> list[int]:
        """Return columns that say how sure a label is, and are 0 in some rows."""
        free = (n for n in self.free if self.plain[n] in CERTAINTIES)
        return [n for n in free if {"0", "0.0"} & set(self.sample.values(n))]

    def _decide_id(self, columns: Columns) -> None:
        """Set the camera or sequence: images of one class and camera are not compared."""
        assert columns.label is not None
        columns.id = self.chosen.get("camera", self.chosen.get("id"))
        for n in self.free if columns.id is None else ():
            values, is_camera = self.sample.values(n), self.plain[n] in CAMERA_NAMES
            if not values or not (is_camera or self.plain[n] in ID_NAMES):
                continue
            unique, labels = len(set(values)) == len(values), self.sample.values(columns.label)
            is_shown = len(set(labels)) < len(labels) or not is_camera  # of one image of each class, nothing is
            numbers_classes = is_shown and self.sample.follows(n, columns.label)
            if not numbers_classes and (is_camera or not unique):
                columns.id = n
                return
            what = "is the same for all images of a class" if is_camera else "only numbers the classes"
            columns.remarks.append(f"{self.names[n]} {what if numbers_classes else 'only numbers the rows'}: not used")


def parse_columns(text: str | None) -> dict[str, str]:
    """Return role → column of the option --columns `image=file,label=sku`; UsageError for an unknown role."""
    columns = {}
    for part in filter(None, (text or "").split(",")):
        role, _, name = (piece.strip() for piece in part.partition("="))
        if role not in ROLES or not name:
            raise UsageError(f"--columns {part!r}: expected one of {', '.join(ROLES)}, then = and the column's name")
        columns[role] = name
    return columns
