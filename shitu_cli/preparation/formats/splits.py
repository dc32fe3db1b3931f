"""Recognise the split that a folder, a file, a path or a cell of a table names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from shitu_cli.preparation.formats.source import bare_name

WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval", "训练", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "eval", "evaluation", "验证", "验证集"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout", "测试", "测试集"), "test"),
    **dict.fromkeys(("query", "queries", "probe"), "query"),
    "gallery": "gallery",
}
# Columns of tables by their names without case and signs; FLAGS are true for images of one split, as fastai's is_valid.
_SPLIT_NAMES = "split partition subset set evaluationstatus phase usage fold kfold datasplit mlsplit"
SPLIT_NAMES = frozenset(_SPLIT_NAMES.split())
_FLAGGED = {word: split for word, split in WORDS.items() if split in ("train", "val", "test")}
FLAGS = {
    f"{start}{word}{end}": split
    for word, split in _FLAGGED.items()
    for start in ("is", "in", "isin")
    for end in ("", "set", "img", "image")
    if start == "is" or word not in ("valid", "validate")  # `invalid` is another word
}
# The same where another column is the class: `test` alone may be its outcome, and `valid` says that an image is sound.
_BARE_FLAGS = {
    **{
        word: split
        for word, split in _FLAGGED.items()
        if word not in ("valid", "validate", "dev", "eval", "evaluation")
    },
    **{f"{word}set": split for word, split in _FLAGGED.items()},
}
# Columns that are true for the queries and for the gallery images; a row may be both.
MARKS = {"isquery": "query", "isgallery": "gallery"}
SAMPLE = 500  # images
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
# Words that say nothing else beside a split: training_set, train_images, seg_train, 01-train, train2017.
_NEUTRAL_TEXT = (
    "set sets data dataset datasets image images img imgs picture pictures photo photos pic pics split splits "
    "folder files file sample samples part seg final full all new raw clean cropped crops resized original "
    "orig list lists the my our of class classes classification jpg jpeg png df public private"
)
_NEUTRAL = frozenset(_NEUTRAL_TEXT.split())
_WORD = re.compile(r"[^\W\d_]+")
_INNER_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")  # TrainImages is train and images


_RUN_TOGETHER = re.compile(f"({'|'.join(WORDS)})({'|'.join(_NEUTRAL)}|数据|图片|图像)")  # trainset, testimages


def _words(text: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(_INNER_WORD.sub(" ", text[:200]))]
    return [match[1] if (match := _RUN_TOGETHER.fullmatch(word)) else word for word in words]


def _splits_in(text: str) -> set[str]:
    return {WORDS[word] for word in _words(text) if word in WORDS}


def split_of(path: str) -> str:
    """Return the split that a path names: the word nearest to its end, "" for none; `train2017` is train."""
    return next((splits.pop() for part in reversed(path.split("/")) if len(splits := _splits_in(part)) == 1), "")


def splits_of_values(name: str, values: Iterable[str], *, beside_label: bool = False) -> dict[str, str]:
    """Return the split that each value of a column means, by its name or as it holds nothing else; {} for no splits.

    The name counts without case and signs; `beside_label` is whether another column may be the class.
    """
    different = set(values)
    known = {value.lower(): split for value in different if len(value) < 40 and (split := split_of_folder(value))}
    different = {value.lower() for value in different}
    several = len(set(known.values())) > 1
    is_named = name in SPLIT_NAMES and ("train" in known.values() or len(known) * 2 > len(different))
    if is_named or (several and known.keys() == different):
        return WORDS | known
    flags = FLAGS | _BARE_FLAGS if beside_label else FLAGS
    if name in flags and different and different <= {*YES, *NO}:
        other = "val" if flags[name] == "train" else "train"
        return {**dict.fromkeys(YES, flags[name]), **dict.fromkeys(NO, other)}
    return {}


def split_words(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the split that a folder's name says ("" for none or several), and its other words without neutral ones."""
    splits = _splits_in(name)
    rest = tuple(word for word in _words(name) if word not in WORDS and word not in _NEUTRAL)
    return (splits.pop() if len(splits) == 1 else "", rest)


def split_of_folder(name: str) -> str:
    """Return the split of a folder whose name says nothing else, else ""."""
    split, rest = split_words(name)
    return split if not rest else ""


def split_of_file(name: str) -> str:
    """Return the split that the name of a list or table says: query, gallery, train, val, test, "" for none.

    A query list of a test set is a query list; one of train and val together is trained where no others are there.
    """
    splits = _splits_in(bare_name(name))
    for split in ("query", "gallery"):
        if split in splits:
            return split
    if splits == {"train", "val"}:
        return "train"
    return splits.pop() if len(splits) == 1 else ""


def is_union(name: str) -> bool:
    """Return whether a list holds the images of training and validation together, by its name: trainval.txt."""
    return "trainval" in _words(bare_name(name)) or _splits_in(bare_name(name)) == {"train", "val"}


def splits_of_names(paths: Sequence[str]) -> set[str]:
    """Return the splits that the names of images say, as in train_1.jpg; none unless training is among several."""
    sample = paths[:: max(1, len(paths) // SAMPLE)]
    splits = {split_words(path.rpartition("/")[2])[0] for path in sample}
    return splits if "" not in splits and "train" in splits and len(splits) > 1 else set()


def split_of_folders(path: str) -> str:
    """Return the split that the first of a path's folders which names one says, "" for none."""
    return next((split for part in path.split("/")[:-1] if (split := split_of_folder(part))), "")


def splits_of_paths(paths: Iterable[str]) -> list[str] | None:
    """Return the split of each image by its folders; None unless each image has one, and training is among them."""
    splits = []
    by_folder: dict[str, str] = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in by_folder:
            by_folder[folder] = split_of_folders(path)
        if not by_folder[folder]:
            return None
        splits.append(by_folder[folder])
    different = set(splits)
    return splits if len(different) > 1 and ("train" in different or {"query", "gallery"} <= different) else None
