"""Class names of strangers: none reaches a terminal or a page as it is, and none is a path, an option or a command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from shitu_cli.data.lists import read_label_map
from shitu_cli.report.page import environment
from shitu_cli.reporting import visible
from tests.command import shitu
from tests.hostile import is_harmless
from tests.index.made import vectors
from tests.preparation.test_formats import draw

NAMES = {
    "a title and a clear screen": "\x1b]0;owned\x07\x1b[2J",
    "a C1 escape": "red\x9b31m",
    "backspaces": "good\x08\x08\x08\x08evil",
    "an override": "safe\u202egpj.exe",
    "isolates": "a\u2066b\u2069c",
    "an Arabic mark": "a\u061cb",
    "a line separator": "a\u2028b",
    "a vertical tab": "a\x0bb",
    "a line break": "two\nlines",
    "a carriage return": "over\rwritten",
    "a tab": "left\tright",
    "bytes that are no text": "caf\udce9",
    "long": "x" * 5000,
    "out of the folder": "../../outside",
    "a path of the system": "/tmp/shitu-outside",
    "a folder above": "..",
    "a home": "~/outside",
    "a drive": "C:\\outside",
    "an address": "s3://bucket/outside",
    "a member": "x.zip::outside",
    "a reserved name": "CON",
    "another": "nul.txt",
    "a lock of ours": ".shitu",
    "an option": "--help",
    "a command": "$(touch outside)",
    "a formula": "=cmd|'/C outside'!A0",
    "a script": "</script><script>alert(1)</script>",
    "an attribute": "\"><img src=x onerror=alert(1)>",
    "a template": "{{ 7 * 7 }}",
    "markup of a library": "[red]x[/red]",
    "a format": "%s{0}%n",
}  # fmt: skip


# A table with such bytes would be of another encoding.
TABLED = [name for name in NAMES.values() if name.isascii() or name.encode("utf-8", "ignore").decode() == name]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `data` with a table of two images of each class, inside of a folder of its own."""
    inner = tmp_path_factory.mktemp("names") / "outer/inner"
    (inner / "data").mkdir(parents=True)
    with (inner / "data/items.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label"])
        for number, name in enumerate(TABLED):
            for n in range(2):
                draw(inner / f"data/{number}_{n}.png", (24, 20))
                table.writerow([f"{number}_{n}.png", name])
    return inner


def untouched(inner: Path) -> bool:
    outer = [file.name for file in (*inner.parents[1].iterdir(), *inner.parent.iterdir())]
    return outer == ["outer", "inner"] and not Path("/tmp/shitu-outside").exists()


def test_prepare_shows_them_harmless_and_writes_nothing_elsewhere(data: Path) -> None:
    for words in (["prepare", "data", "-w", "work"], ["prepare", "data", "-w", "work", "--json"], ["-w", "work"]):
        done = shitu(*words, cwd=data)
        assert is_harmless(done.stdout) and is_harmless(done.stderr), words
    page = (data / "work/reports/prepare.html").read_text("utf-8")
    assert is_harmless(page) and "<script>alert" not in page and "<img src=x" not in page
    names = read_label_map(data / "work/lists/label_map.txt")
    assert {"--help", "../../outside", ".shitu", "[red]x[/red]", "{{ 7 * 7 }}", "two lines"} <= names.keys()
    assert len(names) == len(TABLED) == len(set(names.values())) and untouched(data)
    assert sorted(file.name for file in data.iterdir()) == ["data", "work"]


def test_an_index_shows_them_harmless_and_writes_nothing_elsewhere(data: Path) -> None:
    file, index = data / "f.jsonl", ("--index", "i")
    rows = zip(NAMES.values(), vectors(len(NAMES)).tolist(), strict=True)
    lines = [json.dumps({"path": f"{name}.jpg", "label": name, "feature": row}) for name, row in rows]
    file.write_text("\n".join(lines))
    shown = []
    for words in (
        ["index", "build", "--features", "f.jsonl"],
        ["index", "show"],
        ["index", "show", "--json"],
        ["index", "remove", "--label", NAMES["an override"], "--label", "\x1b[2J none"],
        ["index", "remove", "--label", NAMES["a title and a clear screen"]],
        ["index", "export", "out"],
    ):
        done = shitu(*words, *index, cwd=data, check=False)
        assert is_harmless(done.stdout) and is_harmless(done.stderr), words
        shown.append(done.returncode)
    assert shown == [0, 0, 0, 2, 0, 0] and untouched(data)
    assert {file.name for file in (data / "out").iterdir()} == {
        "id_map.pkl", "id_map.yaml", "items.tsv", "manifest.json", "vector.index"}  # fmt: skip


def test_a_page_holds_them_as_text() -> None:
    for what, name in NAMES.items():
        text = environment().from_string("<p title='{{ x }}'>{{ x }}</p>").render(x=name)
        assert is_harmless(text) and text.count("<") == 2 and is_harmless(visible(name)), what
