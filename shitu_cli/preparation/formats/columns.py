"""What the columns of a table or list are: image, label, split, camera, box. By their names and by what they hold.

Where the names do not decide and two columns could be the label, the user is asked with both: a wrong column trains a
wrong model without a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shitu_cli.errors import UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.preparation.formats.base import whole_label
from shitu_cli.preparation.formats.boxes import CONVENTIONS, XYXY, Convention, box_columns, plain_name
from shitu_cli.preparation.formats.source import has_image_suffix, plain_path


def words(text: str) -> frozenset[str]:
    """Return the words of a text, for lists of names that read as one."""
    return frozenset(text.split())


ROLES = ("image", "label", "split", "id", "camera", "box")
# Names compared without case, blanks and signs. The first tuple decides alone; of the second the only one does.
LABEL_NAMES = (
    ("label", "labels"),
    (
        *("class", "classname", "classid", "classlabel", "labelname", "labelid", "category", "categoryname", "target"),
        *("categoryid", "groundtruth", "tag", "y", "choice"),
    ),
)
IMAGE_NAMES = words(
    "image path file filename filepath imagepath img imgpath name imagename imageid imgname imgid photo "
    "picture url imageurl src imagefile uri link"
)
SPLIT_NAMES = words("split partition subset set evaluationstatus phase usage fold datasplit mlsplit")
CAMERA_NAMES = frozenset(["camera", "cameraid", "camid", "cam"])
ID_NAMES = frozenset(("id", "sequence", "sequenceid", "seq", "seqid", "track", "trackid", "tracklet"))
# Columns that are measures, dates and notes by their names: the label only where the user says so.
_MEASURES = words(
    "width height size area price stock count quantity qty score confidence probability prob lat lon latitude "
    "longitude year month day date time datetime timestamp rating weight age leadtime annotator annotatorid "
    "annotationid createdat updatedat index idx row rownumber url link source license author copyright md5 "
    "sha1 sha256 hash phash imagephash filesize depth channels iscrowd crowd occluded truncated difficult"
)
_BOX_NAMES = frozenset(("box", "bbox", "boundingbox", "roi", "rect", "rectangle", "bndbox"))
SPLITS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "validate": "val",
    "test": "test", "testing": "test", "tst": "test",
    "query": "query", "probe": "query", "gallery": "gallery", "": "",
}  # fmt: skip
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].{0,30})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .{0,20})?")
_NUMBER = re.compile(r"[+-]?(\d{1,20}([.,]\d{0,20})?|[.,]\d{1,20})([eE][+-]?\d{1,3})?")
MOSTLY_UNIQUE = 0.8  # share of different values from which a column is no label
LONG_TEXT = 60  # characters on average from which it is a description


@dataclass
class Columns:
    """Positions of the columns by role, None where there is none; `names` names all columns.

    `display` is a column of names for a label of numbers. `box` is four columns or one that holds four numbers,
    `convention` what they mean, None where it has to be found out. `one_hot` are columns of zeros and a one, each named
    as its class. `remarks` say what else was seen.
    """

    names: list[str]
    image: int
    label: int | None = None
    display: int | None = None
    split: int | None = None
    id: int | None = None
    box: list[int] = field(default_factory=list)
    convention: Convention | None = None
    one_hot: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def said(self) -> str:
        """What is what, for the user: `image = file, class = sku`."""
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
        if self.id is not None:
            parts.append(f"camera or sequence = {self.names[self.id]}")
        return ", ".join([*parts, *self.remarks])


class Sample:
    """Rows of a table, to be asked about its columns."""

    def __init__(self, rows: Sequence[Sequence[str]], width: int) -> None:
        self.rows = rows
        self.columns = [[row[n] for row in rows] for n in range(width)]

    def values(self, column: int) -> list[str]:
        """The values of a column that are not empty."""
        return [value for value in self.columns[column] if value]

    def follows(self, column: int, other: int) -> bool:
        """Whether the value of `other` decides that of `column`."""
        seen: dict[str, str] = {}
        return all(
            seen.setdefault(b, a) == a for a, b in zip(self.columns[column], self.columns[other], strict=True) if a or b
        )

    def same(self, column: int, other: int) -> bool:
        """Whether two columns say the same in other words."""
        return self.follows(column, other) and self.follows(other, column)

    def numeric(self, column: int) -> bool:
        """Whether all values are numbers."""
        return bool(self.values(column)) and all(_NUMBER.fullmatch(value) for value in self.values(column))

    def fractions(self, column: int) -> bool:
        """Whether they are numbers, some of which are not whole."""
        return self.numeric(column) and any(not whole_label(v).lstrip("+-").isdigit() for v in self.values(column))

    def could_be_label(self, column: int) -> bool:
        """Whether its values are like names of classes: more than one, repeated, no measures, dates or long texts."""
        values = self.values(column)
        if len(values) * 2 < len(self.rows) or not values:
            return False
        different = len(set(values))
        if different < 2 or (different > MOSTLY_UNIQUE * len(values) and len(values) >= 5):
            return False
        if self.fractions(column) or sum(map(len, values)) > LONG_TEXT * len(values):
            return False
        if any("\n" in value for value in values) or all(value[:1] in "[{(" for value in values):
            return False
        return not all(_DATE.fullmatch(value) for value in values)


def decide_columns(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    chosen: Mapping[str, str],
    is_image: Callable[[str], bool],
    place: str,
    example: int,
) -> Columns | None:
    """Return what the columns are; None where none of them names images.

    Args:
        names: Names of the columns.
        rows: A sample of the rows.
        chosen: Role to name of a column, as the user says.
        is_image: Whether a value leads to an image that is there.
        place: The file, for errors.
        example: The line number of the first of the rows, for errors.

    Raises UsageError where the user's columns are not there, and where two columns could be the label.
    """
    sample = Sample(rows, len(names))
    plain = [plain_name(name) for name in names]
    given = {role: _position(names, name, place) for role, name in chosen.items() if role != "box"}
    image = given.get("image", _image_column(plain, sample, is_image, names, place, example))
    if image is None:
        return None
    columns = Columns(list(names), image)
    taken = {image, *given.values()}
    _take_box(columns, chosen.get("box"), plain, sample, taken, place)
    columns.split = given.get("split", _split_column(plain, sample, taken))
    taken |= {columns.split} if columns.split is not None else set()
    columns.label = given.get("label")
    if columns.label is None:
        _decide_label(columns, plain, sample, taken, place, example, is_image)
    if columns.label is not None:
        taken.add(columns.label)
        _take_id(columns, plain, sample, taken, given)
    return columns


def _position(names: Sequence[str], name: str, place: str) -> int:
    if name in names:
        return list(names).index(name)
    if (number := whole_number(name)) is not None and 1 <= number <= len(names):
        return number - 1
    raise UsageError(f"{place}: no column {name!r}; there are {', '.join(names)}")


def _image_column(
    plain: Sequence[str],
    sample: Sample,
    is_image: Callable[[str], bool],
    names: Sequence[str],
    place: str,
    example: int,
) -> int | None:
    """The column most values of which are images that are there; else one named so whose values look like images."""
    hits = {}
    for column in range(len(plain)):
        values = sample.values(column)[:200]
        count = sum(map(is_image, values))
        needed = 0.5 if sum(map(_looks_like_image, values)) * 2 > len(values) else 0.9
        if values and count and count >= needed * len(values):
            hits[column] = count
    named = [n for n in hits if plain[n] in IMAGE_NAMES]
    if len(hits) > 1 and len(named) != 1:
        same = [n for n in hits if sample.columns[n] == sample.columns[min(hits)]]
        if len(same) < len(hits):
            raise UsageError(
                f"{place}: which column is the image? {' and '.join(names[n] for n in hits)} lead to images",
                details=[f"{place}:{example}: {names[n]} = {sample.columns[n][0]!r}" for n in hits],
                hint=f"--columns image={names[min(hits)]} or --columns image={names[max(hits)]}",
            )
    if hits:
        return named[0] if named else min(hits)
    for wanted in (
        [n for n in range(len(plain)) if plain[n] in IMAGE_NAMES],
        list(range(len(plain))),
    ):
        looking = [n for n in wanted if (v := sample.values(n)[:200]) and sum(map(_looks_like_image, v)) * 2 > len(v)]
        if looking:
            return looking[0]
    return None


def _looks_like_image(value: str) -> bool:
    return has_image_suffix(plain_path(value))


def _take_box(
    columns: Columns, chosen: str | None, plain: Sequence[str], sample: Sample, taken: set[int], place: str
) -> None:
    """Find the columns of the box, and what their numbers mean as far as names say it."""
    if chosen is not None:
        name, _, meaning = chosen.partition(":")
        columns.box = [_position(columns.names, part, place) for part in name.split("+")]
        columns.convention = _convention(meaning, place) if meaning else None
        if len(columns.box) not in (1, 4):
            raise UsageError(f"{place}: --columns box={chosen}: expected one column, or four joined by +")
        found = box_columns(columns.names)
        if columns.convention is None and found is not None and found[0] == columns.box:
            columns.convention = found[1]
    elif (found := box_columns(columns.names)) is not None:
        if all(sample.numeric(n) or not sample.values(n) for n in found[0]):
            columns.box, columns.convention = found
    else:
        named = [n for n in range(len(plain)) if plain[n] in _BOX_NAMES and n not in taken]
        columns.box = named[:1]
    taken |= set(columns.box)


def _convention(meaning: str, place: str) -> Convention:
    for convention in CONVENTIONS:
        if convention.name == meaning:
            return convention
    known = ", ".join(f"{c.name} ({c.text})" for c in CONVENTIONS)
    raise UsageError(f"{place}: --columns box=...:{meaning}: expected one of {known}")


def _split_column(plain: Sequence[str], sample: Sample, taken: set[int]) -> int | None:
    for n, name in enumerate(plain):
        values = {value.lower() for value in sample.values(n)}
        if n not in taken and name in SPLIT_NAMES and values and len(values & SPLITS.keys()) * 2 > len(values):
            return n
    return None


def _decide_label(
    columns: Columns,
    plain: Sequence[str],
    sample: Sample,
    taken: set[int],
    place: str,
    example: int,
    is_image: Callable[[str], bool],
) -> None:
    """Set the label, its names, or the columns of zeros and a one; UsageError where several could be the label."""
    free = [n for n in range(len(plain)) if n not in taken and any(sample.columns[n])]
    free = [n for n in free if not sum(map(_looks_like_image, (v := sample.values(n)[:100]))) * 2 > len(v)]
    for tier in LABEL_NAMES:
        named = [n for n in free if plain[n] in tier]
        if named:
            _choose(columns, _grouped(named, sample), sample, place, example)
            _name_numbers(columns, free, sample)
            return
    if _is_one_hot(free, sample):
        columns.one_hot = free
        return
    rest = [n for n in free if plain[n] and plain[n] not in _MEASURES and not plain[n].startswith("unnamed")]
    rest = [n for n in rest if plain[n] not in CAMERA_NAMES and plain[n] not in SPLIT_NAMES]
    able = [n for n in rest if sample.could_be_label(n)]
    if not able and len(rest) == 1 and len(set(sample.values(rest[0]))) > 1:
        able = rest  # the only column beside the image, such as one image of each class
    if able:
        _choose(columns, _grouped(able, sample), sample, place, example)
        _name_numbers(columns, able, sample)


def _grouped(candidates: Sequence[int], sample: Sample) -> list[list[int]]:
    """Candidates that say the same in other words (number and name) together."""
    groups: list[list[int]] = []
    for n in candidates:
        group = next((g for g in groups if sample.same(g[0], n)), None)
        if group is None:
            groups.append([n])
        else:
            group.append(n)
    return groups


def _choose(columns: Columns, groups: list[list[int]], sample: Sample, place: str, example: int) -> None:
    if len(groups) > 1:
        shown = [group[0] for group in groups]
        raise UsageError(
            f"{place}: which column is the class? {' or '.join(columns.names[n] for n in shown)}",
            details=[
                f"{columns.names[n]}: {len(set(sample.values(n))):,} different values, line {example} is "
                f"{sample.columns[n][0]!r}"
                for n in shown
            ],
            hint=" or ".join(
                f"--columns image={columns.names[columns.image]},label={columns.names[n]}" for n in shown[:2]
            ),
        )
    columns.label = groups[0][0]


def _name_numbers(columns: Columns, candidates: Sequence[int], sample: Sample) -> None:
    """Where the label is a number, another column that says the same in words names it."""
    label = columns.label
    if label is None or not sample.numeric(label):
        return
    for n in candidates:
        if n != label and not sample.numeric(n) and sample.could_be_label(n) and sample.same(label, n):
            columns.display = n
            return


def _is_one_hot(free: Sequence[int], sample: Sample) -> bool:
    """Whether columns of zeros and ones are left, and nothing else."""
    return len(free) >= 2 and all(set(sample.values(n)) <= {"0", "1", "0.0", "1.0"} for n in free)


def _take_id(columns: Columns, plain: Sequence[str], sample: Sample, taken: set[int], given: Mapping[str, int]) -> None:
    """Find the camera or sequence: images of one class and camera are not compared."""
    assert columns.label is not None
    for role in ("camera", "id"):
        if role in given:
            columns.id = given[role]
            return
    for n, name in enumerate(plain):
        if n in taken or n == columns.display or not (name in CAMERA_NAMES or name in ID_NAMES):
            continue
        values = sample.values(n)
        if not values:
            continue
        unique = len(set(values)) == len(values)
        if name in CAMERA_NAMES or not (unique or sample.follows(n, columns.label)):
            columns.id = n
            return
        columns.remarks.append(f"{columns.names[n]} only numbers the {'rows' if unique else 'classes'}: not used")


def parse_columns(text: str | None) -> dict[str, str]:
    """Return role → column of the option --columns `image=file,label=sku`; UsageError for what is no role."""
    found = {}
    for part in (text or "").split(","):
        key, equals, name = part.partition("=")
        if part and (not equals or key.strip() not in ROLES or not name.strip()):
            raise UsageError(f"--columns {part!r}: expected one of {', '.join(ROLES)}, then = and the column's name")
        if part:
            found[key.strip()] = name.strip()
    return found


def numbers_of(cells: Sequence[str]) -> tuple[float, ...] | None:
    """Return four numbers from one cell ([1, 2, 3, 4], 1 2 3 4, {'x': 1, ...}) or four; None where they are none."""
    if len(cells) == 1:
        cells = re.split(r"[\s,;]+", cells[0].strip().strip("[](){}").strip())
        if len(cells) != 4:
            return None
    try:
        values = tuple(float(cell.strip().replace(",", ".", 1)) for cell in cells)
    except ValueError:
        return None
    return values if all(abs(value) < 1e9 for value in values) else None


_KEYS = re.compile(r"""['"]?([A-Za-z_0-9]{1,20})['"]?\s{0,3}:\s{0,3}(-?\d{1,9}(?:\.\d{0,12})?)""")


def named_numbers(cell: str) -> tuple[tuple[float, ...], Convention] | None:
    """Return the numbers of a cell {'x': 30, 'y': 20, 'w': 40, 'h': 60} and what their names say; None for others."""
    pairs = _KEYS.findall(cell[:500])
    found = box_columns([name for name, _ in pairs])
    if found is None:
        return None
    return tuple(float(pairs[n][1]) for n in found[0]), found[1]


def most_common_width(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of cells that most rows have."""
    return Counter(map(len, rows)).most_common(1)[0][0] if rows else 0


DEFAULT = XYXY
