"""The problems that a data set can have, each with its level and what to do, and a collection of their cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shitu_cli.errors import pip_install

SHOWN = 3  # examples in the table
KEPT = 200  # examples in the reports


@dataclass(frozen=True)
class Kind:
    """A kind of problem; its `level` is error (it would spoil training or evaluation), warning or note (dealt with)."""

    level: str
    text: str
    fix: str


PROBLEM_KINDS: dict[str, Kind] = {
    # Errors: training or evaluation would be spoilt.
    "missing": Kind(
        "error", "the file is not there", "correct the path or the image root; or --fix leaves the line out"
    ),
    "empty-file": Kind("error", "a file of zero bytes", "copy the image again; or --fix leaves it out"),
    "not-an-image": Kind("error", "not an image, whatever its name says", "remove it; or --fix leaves it out"),
    "truncated": Kind("error", "the image ends too early", "copy it again; or --fix leaves it out"),
    "unreadable": Kind("error", "cannot be decoded", "convert it to JPEG or PNG; or --fix leaves it out"),
    "too-large": Kind("error", "more than 178 million pixels", "make it smaller; or --fix leaves it out"),
    "malformed": Kind(
        "error", "a line without image or label, or that cannot be read", "complete it; or --fix leaves it out"
    ),
    "label-conflict": Kind(
        "error",
        "one image with two labels",
        "choose one, in your list or with --corrections; or --fix drops all its lines",
    ),
    "outside-root": Kind("error", "path leads out of the image root", "move the image inside; or --fix leaves it out"),
    "bad-name": Kind(
        "error", "a tab, line break or zero byte in the file name", "rename the file; or --fix leaves it out"
    ),
    "bad-box": Kind("error", "the box is empty or outside its image", "correct it; or --fix leaves it out"),
    "bad-annotation": Kind("error", "the annotation cannot be read", "correct it; or --fix leaves it out"),
    "no-annotation": Kind("error", "an image without its annotation", "add the file; or --fix leaves the image out"),
    "several-images": Kind(
        "error", "a name that several images have", "write their folders too, or name one folder with --image-root"
    ),
    "several-labels": Kind(
        "error", "an image with more than one class", "keep one label for each image; or --fix leaves them out"
    ),
    "other-size": Kind(
        "error",
        "the image has another size than its annotation states, so its boxes do not fit",
        "export the annotations for these images; or --fix leaves them out",
    ),
    "odd-label": Kind("error", "the label is not a number, but the others are", "correct it; or --fix leaves it out"),
    "other-numbers": Kind(
        "error",
        "two lists number the classes differently, by the folders of their images",
        "give each class one number in all lists, or --format class-tree takes the folders; --fix keeps these labels",
    ),
    "no-access": Kind("error", "a folder that cannot be opened", "change its permissions; or --fix leaves it out"),
    # Warnings: worth a look.
    "untrained": Kind("warning", "label -1 (no class) in a training list", "nothing: it is left out of training"),
    "unasked": Kind("warning", "label -1 (no class) in a list of queries", "nothing: it is left out of the queries"),
    "unlabelled": Kind("warning", "an image outside every class folder", "move it into a class folder"),
    "unread-list": Kind("warning", "not read, as the folders are the classes", "see shitu prepare --formats"),
    "beside-splits": Kind(
        "warning", "images beside the folders of the splits", "move them into one of these: they are left out"
    ),
    "unlisted": Kind("warning", "a labelled image that no list of a split names", "list it: it is left out"),
    "no-split": Kind("warning", "training and evaluation are the same images", "nothing: they are split again"),
    "cut-box": Kind("warning", "the box leaves its image", "nothing: it is cut off at the edge"),
    "tiny-box": Kind("warning", "a box with a side under 4 pixels", "nothing: it shows too little and is left out"),
    "hidden": Kind("warning", "hidden, as its name begins with a dot", "rename it to use it: it is left out"),
    "no-images": Kind("warning", "a folder without any image", "put images into it: without any it is not a class"),
    "duplicate-line": Kind("warning", "the same image and label again", "nothing: the repeated line is left out"),
    "duplicate": Kind("warning", "identical files within a class", "keep one; --fix keeps the first"),
    "label-noise": Kind(
        "warning",
        "identical or nearly identical images in two classes",
        "correct the labels; the gallery in reports/prepare.html shows them side by side",
    ),
    "leak": Kind(
        "warning",
        "the same image in training and evaluation, which makes scores too good",
        "--fix takes it out of the query list",
    ),
    "twin": Kind(
        "warning", "the same image in query and gallery, which is always found", "--fix takes it out of the query list"
    ),
    "near-duplicate": Kind("warning", "nearly the same image within a class", "nothing, unless there are many"),
    "animated": Kind("warning", "an image of several frames or pages", "nothing: the first one is used"),
    "plain": Kind(
        "warning",
        "an image that is of one colour when it is read, so that it shows nothing",
        "look at it: what only its transparency or the lowest of 16 bits show is lost; save it as an 8-bit JPEG or PNG",
    ),
    "tiny": Kind("warning", "an image smaller than 32 pixels", "replace it by a larger one"),
    "extreme-aspect": Kind("warning", "an image more than 5 times as long as wide", "crop it to the object"),
    "singleton": Kind("warning", "a class with one image to train on", "add images: one alone teaches little"),
    "few-for-sampler": Kind(
        "warning", "a class with fewer images than the sampler draws", "nothing: the sampler repeats them"
    ),
    "no-query": Kind(
        "warning",
        "a class of which nothing can be kept for evaluation, as its images are alike or shared with others",
        "add other images of it to measure it too",
    ),
    "one-query-class": Kind(
        "warning",
        "all queries are of this one class",
        "are the labels of this part placeholders? then move its list or folder away",
    ),
    "absent-in-gallery": Kind("warning", "a query class that the gallery lacks", "add gallery images of it"),
    "other-folder": Kind(
        "warning",
        "the image is in a folder called like another class than its label",
        "nothing if the list or table is right; --format class-tree takes the folders",
    ),
    "similar-labels": Kind(
        "warning",
        "names that differ only by case, blanks, - or _, a number in front, zeros, hidden signs or encoded letters",
        "if they are one class, rename one of them",
    ),
    "same-folder-name": Kind(
        "warning",
        "folders of one name in several others: each is a class of its own",
        "if they are one class, put their images into one folder, or read the folders above with --merge",
    ),
    "other-names": Kind(
        "warning",
        "classes that are names in one part of the data and numbers in the other: none is in both",
        "if they are the same classes, call them the same in both parts",
    ),
    "garbled-name": Kind(
        "warning",
        "a name whose letters were read in a wrong encoding before it came here",
        "unpack or export it again as UTF-8, such as unzip -O gb18030 for an archive of Windows in China",
    ),
    "same-name": Kind(
        "warning",
        "several numbers with one name",
        "each number is now a class of its own: if they are one class, give them the same number",
    ),
    "empty-word": Kind(
        "warning",
        "a label that programs or people write where there is none",
        "nothing if it is the name of a class; else leave these images out",
    ),
    "several-names": Kind(
        "warning",
        "a label made of several other labels, such as tags in one cell",
        "nothing if each combination is to be a class; else keep one name for each image",
    ),
    "broken-name": Kind("warning", "a line break in the name of a class", "nothing: it is read as a space"),
    "leading-zeros": Kind(
        "warning", "labels that differ only by leading zeros, such as 7 and 007", "write them all in one way"
    ),
    "rounded-label": Kind(
        "warning",
        "a number that a spreadsheet has rounded: several products may have become one class",
        "make the column text in the spreadsheet and export it again",
    ),
    "imbalance": Kind(
        "warning", "the largest class has over 20 times as many images as the median", "ClassBalancedSampler helps"
    ),
    "mixed-separators": Kind("warning", "lines of one list are separated differently", "use one separator"),
    "link-loop": Kind("warning", "a link that leads back to a folder above", "nothing: it is not followed"),
    "dead-link": Kind("warning", "a link to something that does not exist", "correct or remove it"),
    "other-format": Kind("warning", "an image in a format that is not read", "convert it to JPEG or PNG"),
    "heic": Kind("warning", "a HEIC or HEIF image, which needs a package", f"{pip_install('heic')}: it is left out"),
    # Notes: taken care of.
    "heading": Kind("note", "heading or comment in a list", "nothing: it is skipped"),
    "encoding": Kind("note", "the list is not UTF-8", "nothing if the words shown are right"),
    "crowd": Kind("note", "a box around a group, not one object", "nothing: it is left out"),
    "no-objects": Kind("note", "an image in which nothing is annotated", "nothing: it is left out"),
    "unannotated": Kind("note", "an image that no annotation names", "nothing: it is left out"),
    "grey": Kind("note", "a grey image", "nothing: it becomes RGB when read"),
    "alpha": Kind("note", "an image with transparency", "nothing: transparency is dropped when read"),
    "cmyk": Kind("note", "a CMYK image", "nothing: it becomes RGB when read"),
    "16-bit": Kind("note", "a 16-bit image", "nothing: it becomes 8-bit when read"),
    "rotated": Kind("note", "rotated by its EXIF data", "nothing: it is turned upright when read"),
    "not-evaluated": Kind("note", "labelled images of a split that is not used", "prepare its folder alone to use it"),
}


@dataclass
class Cases:
    """All cases of one kind: how many, and the first ones as (where, detail)."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


class Problems:
    """Collects what is wrong, all at once; `reading` is the file that is being read."""

    def __init__(self) -> None:
        self.reading = ""
        self.cases: dict[str, Cases] = {}

    def add(self, kind: str, where: str, detail: str = "") -> None:
        """Add a case of a kind in PROBLEM_KINDS; `where` is file:line or a path."""
        assert kind in PROBLEM_KINDS, f"no kind of problem is called {kind}"
        cases = self.cases.setdefault(kind, Cases())
        cases.count += 1
        if len(cases.examples) < KEPT:
            cases.examples.append((where, detail))

    def take(self, others: Problems, without: Sequence[str] = ()) -> None:
        """Add all that others hold, but kinds in `without`."""
        for kind, cases in others.cases.items():
            if kind not in without:
                for where, detail in cases.examples:
                    self.add(kind, where, detail)
                self.cases[kind].count += cases.count - len(cases.examples)

    def count(self, *levels: str) -> int:
        """Return how many cases there are of these levels."""
        return sum(cases.count for kind, cases in self.cases.items() if PROBLEM_KINDS[kind].level in levels)

    def lines(self, *levels: str) -> list[str]:
        """Return a line for each kind of these levels: how many cases, and the first."""
        kinds = ((kind, cases) for _, kind, cases in self.ordered() if kind.level in levels)
        return [f"{cases.count:,} x {kind.text}, first {' '.join(cases.examples[0]).strip()}" for kind, cases in kinds]

    def ordered(self) -> Iterable[tuple[str, Kind, Cases]]:
        """Yield name, kind and cases: errors first, then by the order of PROBLEM_KINDS."""
        levels = ("error", "warning", "note")
        for level in levels:
            for name, kind in PROBLEM_KINDS.items():
                if kind.level == level and name in self.cases:
                    yield name, kind, self.cases[name]

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "kind": name,
                "level": kind.level,
                "count": cases.count,
                "what": kind.text,
                "fix": kind.fix,
                "examples": [{"where": where, "detail": detail} for where, detail in cases.examples],
            }
            for name, kind, cases in self.ordered()
        ]
