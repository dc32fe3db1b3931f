"""Market-1501 and VeRi-776: identity and camera are in the file names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from shitu_cli.preparation.formats.base import Rows, walk_images
from shitu_cli.preparation.formats.dataset import dataset, holding
from shitu_cli.preparation.problems import Problems

SPLITS = ("train", "query", "gallery")
MARKET = ("bounding_box_train", "query", "bounding_box_test")
VERI = ("image_train", "image_query", "image_test")
_MARKET_NAME = re.compile(r"(-1|\d{4})_c(\d)")
_VERI_NAME = re.compile(r"(\d+)_c(\d+)")


def _reader(folders: tuple[str, ...], name: re.Pattern[str]) -> Callable[[Path, str, Problems], Rows]:
    def read(base: Path, protocol: str, problems: Problems) -> Rows:
        rows = Rows(base)
        for folder, split in zip(folders, SPLITS, strict=True):
            for path in walk_images(base / folder, problems):
                match = name.match(path)
                if match is None:
                    problems.add("unlabelled", f"{folder}/{path}", "the name does not begin with identity and camera")
                elif match[1] != "-1":  # junk detections, which the protocol leaves out
                    # Identity 0000 are people that no query shows: they distract, and match nothing.
                    label = "-1" if match[1] == "0000" and split == "gallery" else match[1]
                    rows.add(f"{folder}/{path}", label, split, id=match[2])
        return rows

    return read


MARKET1501 = dataset(
    "market1501",
    "Market-1501: bounding_box_train, query, bounding_box_test; camera as id, junk left out, distractors kept",
    home=holding(*MARKET),
    read=_reader(MARKET, _MARKET_NAME),
    needs=", ".join(MARKET),
)
VERI776 = dataset(
    "veri776",
    "VeRi-776: image_train, image_query, image_test; camera as id",
    home=holding(*VERI),
    read=_reader(VERI, _VERI_NAME),
    needs=", ".join(VERI),
)
