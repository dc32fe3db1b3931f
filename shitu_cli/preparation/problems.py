"""What can be wrong with a data set: every kind with its weight and the way to mend it, and all that was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

SHOWN = 3  # examples in the table
KEPT = 200  # examples in the reports


@dataclass(frozen=True)
class Kind:
    """`level` error: training or evaluation would be spoilt; warning: look at it; note: dealt with."""

    level: str
    text: str
    mend: str


KINDS: dict[str, Kind] = {
    "missing": Kind("error", "file is not there", "correct the path or the image root, or --fix leaves the line out"),
    "empty-file": Kind("error", "file of zero bytes", "copy the picture again, or --fix leaves it out"),
    "not-an-image": Kind("error", "not a picture, whatever its name", "remove it, or --fix leaves it out"),
    "truncated": Kind("error", "picture ends too early", "copy it again, or --fix leaves it out"),
    "unreadable": Kind("error", "cannot be decoded", "convert it to JPEG or PNG, or --fix leaves it out"),
    "too-large": Kind("error", "more than 178 million pixels", "make it smaller, or --fix leaves it out"),
    "malformed": Kind("error", "line cannot be read", "write path<TAB>label, or --fix leaves it out"),
    "label-conflict": Kind("error", "same picture with two labels", "decide for one, or --fix drops all its lines"),
    "outside-root": Kind(
        "error", "path leads out of the image root", "move the picture inside, or --fix leaves it out"
    ),
    "bad-name": Kind(
        "error", "tab, line break or zero byte in the file name", "rename the file, or --fix leaves it out"
    ),
    "bad-box": Kind("error", "box is empty or outside its picture", "correct it, or --fix leaves it out"),
    "bad-annotation": Kind("error", "annotation that cannot be read", "correct it, or --fix leaves it out"),
    "no-annotation": Kind("error", "image without its annotation", "add the file, or --fix leaves the image out"),
    "several-images": Kind(
        "error", "name that several images have", "write their folders too, or name one folder with --image-root"
    ),
    "several-labels": Kind(
        "error", "image with more than one class", "keep one label for each image, or --fix leaves them out"
    ),
    "other-size": Kind(
        "error",
        "image of another size than its annotation states: its boxes do not fit it",
        "export the annotations for these images, or --fix leaves them out",
    ),
    "untrained": Kind("warning", "label -1 (of no class) in a training list", "it is left out of training"),
    "unlabelled": Kind("warning", "picture outside of any class folder", "move it into a class folder"),
    "unread-list": Kind("warning", "list that is not read: classes are the folders", "see shitu prepare --formats"),
    "beside-splits": Kind(
        "warning", "pictures beside the folders of the splits", "move them into one of these: they are left out"
    ),
    "unlisted": Kind("warning", "annotated image that no list of a split names", "list it: it is left out"),
    "no-split": Kind("warning", "training and evaluation are the same images", "the split is made anew"),
    "cut-box": Kind("warning", "box that leaves its image", "it is cut off at the edge"),
    "tiny-box": Kind("warning", "box with a side under 4 pixels", "nothing can be recognised in it: it is left out"),
    "hidden": Kind("warning", "hidden: its name begins with a dot", "rename it to use it: it is left out"),
    "no-images": Kind("warning", "folder without any picture", "put pictures into it: it is left out, and is no class"),
    "duplicate-line": Kind("warning", "same picture and label again", "the repeated line is left out"),
    "duplicate": Kind("warning", "identical files within a class", "keep one; --fix keeps the first"),
    "label-noise": Kind("warning", "identical or near-identical pictures in two classes", "correct the labels"),
    "leak": Kind(
        "warning", "same picture in training and evaluation", "--fix takes it out of the query list; scores flatter"
    ),
    "twin": Kind(
        "warning", "same picture in query and gallery", "--fix takes it out of the query list; it is found at once"
    ),
    "near-duplicate": Kind("warning", "nearly the same picture within a class", "nothing, unless there are many"),
    "animated": Kind("warning", "animated picture", "its first frame is used"),
    "tiny": Kind("warning", "smaller than 32 pixels", "replace it by a larger one"),
    "extreme-aspect": Kind("warning", "more than 5 times as long as wide", "crop it to the object"),
    "singleton": Kind("warning", "class with one picture to train on", "add pictures: one alone teaches little"),
    "few-for-sampler": Kind("warning", "class with fewer pictures than the sampler draws", "the sampler repeats them"),
    "absent-in-gallery": Kind("warning", "query class that the gallery lacks", "add gallery pictures of it"),
    "similar-labels": Kind(
        "warning",
        "label names that differ only by case, blanks or the way letters are encoded",
        "one class or two? rename one",
    ),
    "leading-zeros": Kind(
        "warning", "labels that differ only by leading zeros, such as 7 and 007", "write them all in one way"
    ),
    "odd-label": Kind("error", "label is no number while the others are", "correct it, or --fix leaves it out"),
    "imbalance": Kind("warning", "largest class has over 20 times the median's pictures", "ClassBalancedSampler helps"),
    "mixed-separators": Kind("warning", "lines of one list are separated differently", "use one separator"),
    "link-loop": Kind("warning", "link that leads back to a folder above", "it is not followed"),
    "dead-link": Kind("warning", "link to what is not there", "correct or remove it: nothing is read through it"),
    "no-access": Kind("error", "folder that cannot be opened", "change its permissions, or --fix leaves it out"),
    "other-format": Kind("warning", "picture in a format that is not read", "convert it to JPEG or PNG"),
    "heading": Kind("note", "heading or comment in a list", "it is passed over"),
    "encoding": Kind("note", "list is not UTF-8", "read as the encoding named"),
    "crowd": Kind("note", "box around a group, not one object", "it is left out"),
    "no-objects": Kind("note", "annotated image without an object", "it is left out"),
    "unannotated": Kind("note", "image that no annotation names", "it is left out"),
    "grey": Kind("note", "grey picture", "converted to RGB when read"),
    "alpha": Kind("note", "picture with transparency", "transparency is dropped when read"),
    "cmyk": Kind("note", "CMYK picture", "converted to RGB when read"),
    "16-bit": Kind("note", "16-bit picture", "converted to 8 bits when read"),
    "rotated": Kind("note", "turned by its EXIF data", "turned upright when read"),
    "not-evaluated": Kind(
        "note", "labelled pictures of a split that is not used", "prepare its folder alone to use it"
    ),
}


@dataclass
class Found:
    """All cases of one kind: how many, and the first ones as (where, detail)."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


class Problems:
    """Collects what is wrong, all at once; `reading` is the file that is being read."""

    def __init__(self) -> None:
        self.reading = ""
        self.found: dict[str, Found] = {}

    def add(self, kind: str, where: str, detail: str = "") -> None:
        """`where` is file:line or a path."""
        found = self.found.setdefault(kind, Found())
        assert kind in KINDS
        found.count += 1
        if len(found.examples) < KEPT:
            found.examples.append((where, detail))

    def take(self, others: Problems, without: Sequence[str] = ()) -> None:
        """Add all that others hold, but kinds in `without`."""
        for kind, cases in others.found.items():
            if kind not in without:
                for where, detail in cases.examples:
                    self.add(kind, where, detail)
                self.found[kind].count += cases.count - len(cases.examples)

    def count(self, *levels: str) -> int:
        return sum(found.count for kind, found in self.found.items() if KINDS[kind].level in levels)

    def ordered(self) -> Iterable[tuple[str, Kind, Found]]:
        """Errors first, then by the order of KINDS."""
        levels = ("error", "warning", "note")
        for level in levels:
            for name, kind in KINDS.items():
                if kind.level == level and name in self.found:
                    yield name, kind, self.found[name]

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "kind": name,
                "level": kind.level,
                "count": found.count,
                "what": kind.text,
                "mend": kind.mend,
                "examples": [{"where": where, "detail": detail} for where, detail in found.examples],
            }
            for name, kind, found in self.ordered()
        ]
