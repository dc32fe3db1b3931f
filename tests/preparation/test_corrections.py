"""A table of corrections leaves images out and relabels them, for every kind of source; wrong lines are all named."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.corrections import apply_corrections, spelling
from shitu_cli.preparation.formats.base import ReadOptions, Rows
from shitu_cli.preparation.prepare import Prepared, read_and_split
from shitu_cli.preparation.sources import find_images
from shitu_cli.reporting import SilentReporter
from shitu_cli.steps.prepare import prepare as prepare_step
from shitu_cli.workspace import Workspace
from tests.command import shitu
from tests.conftest import MakeImages


@pytest.fixture
def data(tmp_path: Path, make_images: MakeImages) -> Path:
    """A folder of 3 classes with 4 images each; 000 of the first class lies in the second one too."""
    root = tmp_path / "data"
    make_images(root)
    shutil.copy(root / "class_000/000.jpg", root / "class_001/wrong.jpg")
    return root


def corrected(source: Path, lines: str | bytes, **read: object) -> Prepared:
    """Prepare with these lines of corrections."""
    table = source.parent / "corrections.csv"
    content = f"path,label\n{lines}".encode() if isinstance(lines, str) else lines
    table.write_bytes(content)
    return read_and_split([source], Choices(corrections=table, read=ReadOptions(**read)), SilentReporter())  # type: ignore[arg-type]


def labels(prepared: Prepared) -> dict[str, str]:
    rows = prepared.rows
    return {rows.paths[n]: rows.shown(rows.labels[n]) for n in range(len(rows))}


def test_images_are_left_out_and_relabelled(data: Path) -> None:
    lines = "class_000/001.jpg,\nclass_000/002.jpg,class_002\nclass_001/000.jpg,fresh\n"
    lines += "class_001/002.jpg,Class_002\nclass_001/001.jpg,class_001\n"
    prepared = corrected(data, lines)
    after = labels(prepared)
    assert "class_000/001.jpg" not in after and len(after) == 12
    assert after["class_000/002.jpg"] == "class_002" and after["class_001/000.jpg"] == "fresh"
    assert prepared.names.keys() == {"class_000", "class_001", "class_002", "fresh", "Class_002"}
    said = str(prepared.corrections)
    assert (
        said.startswith("1 image left out, 3 relabelled, by ")
        and "2 new classes: 'Class_002' (not 'class_002'?), 'fresh'" in said
    )
    assert "1 had the label already" in said


def test_the_audit_says_no_more_what_a_correction_has_solved(data: Path) -> None:
    assert "label-noise" in read_and_split([data], Choices(), SilentReporter()).problems.cases
    found = corrected(data, "class_001/wrong.jpg,\n").problems.cases
    assert "label-noise" not in found and "duplicate" not in found
    (data / "class_002/broken.jpg").write_bytes(b"")
    assert "empty-file" not in corrected(data, "class_002/broken.jpg,\n").problems.cases


def test_two_labels_of_one_image_become_one(data: Path) -> None:
    listed = data / "list.txt"
    lines = [f"class_00{c}/00{n}.jpg\tclass_00{c}\n" for c in range(3) for n in range(4)]
    listed.write_text("".join([*lines, "class_000/000.jpg\tclass_001\n"]))
    assert "label-conflict" in read_and_split([listed], Choices(), SilentReporter()).problems.cases
    prepared = corrected(listed, "class_000/000.jpg,class_000\n")
    assert prepared.problems.cases.keys() & {"label-conflict", "duplicate-line"} == set()
    assert labels(prepared)["class_000/000.jpg"] == "class_000" and len(prepared.rows) == 12


@pytest.mark.parametrize(
    "spelt", ["./class_000/001.jpg", "data/class_000/001.jpg", "{root}/class_000/001.jpg", "class_000\\001.jpg"]
)
def test_paths_as_users_type_them(spelt: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    after = labels(corrected(Path("data"), f"{spelt.format(root=data)},class_002\n"))
    assert after["class_000/001.jpg"] == "class_002"


def test_tables_of_spreadsheets(data: Path) -> None:
    for content in (
        b"\xef\xbb\xbfpath;label\r\nclass_000/001.jpg;class_002\r\n",
        b"label\tnote\tpath\nclass_002\tmy dog\tclass_000/001.jpg\n\n",
    ):
        assert labels(corrected(data, content))["class_000/001.jpg"] == "class_002"


def test_boxes_are_named_one_by_one(data: Path) -> None:
    lines = ["path,x1,y1,x2,y2,class"]
    lines += [f"class_00{c}/00{n}.jpg,1,2,20,22,class_00{c}" for c in range(3) for n in range(4)]
    lines.append("class_000/000.jpg,15,5,39,30,class_001")
    (data / "boxes.csv").write_text("\n".join(lines) + "\n")
    plain = read_and_split([data / "boxes.csv"], Choices(), SilentReporter())
    assert spelling(plain.rows, 0) == "class_000/000.jpg#1,2,20,22"
    prepared = corrected(data / "boxes.csv", '"class_000/000.jpg#15,5,39,30",class_002\n')
    rows = prepared.rows
    assert sorted(rows.labels[n] for n in rows.boxes if rows.paths[n] == "class_000/000.jpg") == [
        "class_000",
        "class_002",
    ]
    assert len(corrected(data / "boxes.csv", "class_000/000.jpg,\n").rows) == 11
    with pytest.raises(DataError) as error:
        corrected(data / "boxes.csv", "class_000/000.jpg,class_002\n")
    assert "shows objects of 2 classes" in error.value.details[0] and "#1,2,20,22" in error.value.details[0]


def test_all_problems_at_once(data: Path) -> None:
    lines = (
        "class_000/01.jpg,class_002\nelsewhere/003.jpg,\nclass_000/001.jpg,class_002\n"
        "./class_000/001.jpg,class_001\nclass_000/002.jpg\n,class_001\n"
    )
    with pytest.raises(DataError) as error:
        corrected(data, f"path,label\n{lines}".encode() + b"class_000/003.jpg,caf\xe9\n")
    details = [detail.rpartition("corrections.csv:")[2] for detail in error.value.details]
    assert "6 problems" in error.value.message and len(details) == 6
    for part in (
        "2: class_000/01.jpg is not in the data; the nearest is class_000/",
        "3: elsewhere/003.jpg is not in the data; the nearest is class_00",
        "5: ./class_000/001.jpg is 'class_001' here, 'class_002' in line 4",
        "6: 1 value instead of 2",
        "7: no path",
        "8: not UTF-8",
    ):
        assert [detail for detail in details if detail.startswith(part)], (part, details)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"path\nclass_000/001.jpg\n", "no column label"),
        (b"", "empty"),
        (b'path,label\n"class_000/001.jpg"x,1\n', "expected after"),
    ],
)
def test_tables_that_are_none(content: bytes, says: str, data: Path) -> None:
    with pytest.raises(DataError) as error:
        corrected(data, content)
    assert says in error.value.details[0] and "corrections.csv:" in error.value.details[0]


def test_the_command_remembers_and_forgets_them(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "corrections.csv"
    table.write_text("path,label\nclass_001/wrong.jpg,\nclass_000/001.jpg,class_002\n")
    before = {path: path.read_bytes() for path in [table, *data.rglob("*.jpg")]}
    work = tmp_path / "work"
    first = shitu("prepare", "data", "-w", "work", "--corrections", "corrections.csv", "--quick", cwd=tmp_path)
    assert "1 image left out, 1 relabelled, by corrections.csv" in first.stdout
    again = json.loads(shitu("prepare", "data", "-w", "work", "--quick", "--json", cwd=tmp_path).stdout)
    assert (again["corrections"]["left_out"], again["corrections"]["relabelled"]) == (1, 1)
    assert json.loads((work / "reports/prepare.json").read_text())["corrections"] == again["corrections"]
    assert before == {path: path.read_bytes() for path in before}
    shitu("prepare", "data", "-w", "work", "--corrections", "none", "--quick", cwd=tmp_path)
    last = json.loads(shitu("prepare", "data", "-w", "work", "--quick", "--json", cwd=tmp_path).stdout)
    assert last["corrections"] is None
    # Among the images the table would be read as that of all labels.
    os.replace(table, data / "corrections.csv")
    args = ("prepare", "data", "-w", "work", "--corrections", "data/corrections.csv")
    refused = shitu(*args, cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "is among the images" in refused.stderr


def test_other_commands_read_the_source_with_its_corrections(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "corrections.csv"
    table.write_text("path,label\nclass_001/wrong.jpg,\nclass_000/001.jpg,class_002\n")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"data/class_00{c}/00{n}.jpg\tclass_00{c}\n" for c in range(3) for n in range(4)))
    for source, lines in ((data, table.read_text()), (listed, "path,label\ndata/class_000/001.jpg,class_002\n")):
        table.write_text(lines)
        space = prepare_step(source, tmp_path / f"work-{source.stem}", corrections=table, quick=True).workspace
        images = find_images([str(source)], workspace=space)
        by_file = {Path(file).relative_to(data).as_posix(): images.labels[n] for n, file in enumerate(images.files)}
        assert len(by_file) == 12 and by_file["class_000/001.jpg"] == "class_002", source
    table.unlink()
    with pytest.raises(DataError, match=r"corrections.csv: No such file") as error:
        find_images([str(listed)], workspace=space)
    assert "--corrections none" in str(error.value.hint)


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(b"path,label\n".__add__)))
def test_any_bytes_are_applied_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "c.csv")
        table.write_bytes(content)
        try:
            after, _ = apply_corrections(some_rows(Path(folder)), table, [])
        except DataError as error:
            assert str(table) in str(error.message)
        else:
            assert 0 < len(after) <= 3


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0/"), min_size=1, max_size=12)


@given(NAMES.filter(lambda name: name not in (".", "..")), NAMES.filter(str.strip))
def test_any_name_of_a_file_and_of_a_class_can_be_written(name: str, label: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows, table = some_rows(Path(folder)), Path(folder, "c.csv")
        rows.add(f"other/{name}", "a")
        rows.add("last/0.jpg", label)  # a class of this very name, blanks around it included
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "label"), (f"other/{name}", label)])
        after, applied = apply_corrections(rows, table, [])
        assert after.labels[3] == label and after.paths == rows.paths and applied.new_classes == []


def some_rows(root: Path) -> Rows:
    rows = Rows(root)
    for path in ("x/1.jpg", "x/2.jpg", "y/1.jpg"):
        rows.add(path, path[0])
    return rows


@pytest.mark.parametrize("apart", [False, True])
def test_a_merged_source_is_read_as_prepare_has_read_it(tmp_path: Path, make_images: MakeImages, apart: bool) -> None:
    """Corrections count from the folder that holds all sources, and labels are called as in all of them."""
    for name, seed in (("old", 0), ("new", 9)):
        make_images(tmp_path / "shop" / name, seed=seed)
    of = {name: f"{name}/" if apart else "" for name in ("old", "new")}
    (tmp_path / "c.csv").write_text(
        f"path,label\nold/class_000/001.jpg,{of['new']}class_001\nnew/class_002/000.jpg,\n", encoding="utf-8"
    )
    sources = [str(tmp_path / "shop" / name) for name in ("old", "new")]
    flags = ["--keep-apart"] if apart else []
    shitu("prepare", *sources, "--merge", *flags, "--corrections", "c.csv", "-w", "work", cwd=tmp_path)
    space = Workspace(tmp_path / "work")
    for name in ("old", "new"):
        images = find_images([str(tmp_path / "shop" / name)], workspace=space)
        labels = {Path(file).relative_to(tmp_path / "shop").as_posix(): label for file, label in zip(
            images.files, images.labels, strict=True)}  # fmt: skip
        right = {f"{name}/class_{c:03}/{n:03}.jpg": f"{of[name]}class_{c:03}" for c in range(3) for n in range(4)}
        right.pop("new/class_002/000.jpg", None)
        if name == "old":
            right["old/class_000/001.jpg"] = f"{of['new']}class_001"
        assert labels == right
