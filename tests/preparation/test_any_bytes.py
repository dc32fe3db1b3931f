"""Whatever stands in a list: no traceback, nothing written elsewhere, and what is accepted survives a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.data.lists import read_label_map, read_list, write_label_map, write_list
from shitu_cli.errors import ShituError
from shitu_cli.preparation.checks import check_lines, leads_outside
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.table import TABLE, TEXT_LIST
from shitu_cli.preparation.numbering import image_list, number_classes
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.split import Split
from tests.mutations import cases

WORDS = st.sampled_from(
    [
        *(b"a.jpg", b"../x.png 1", b"/etc/passwd.jpg 2", b"b c.JPG\t3", b'"q.jpg",5', b"x.jpg 1 2", b"path,label\n"),
        *(b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\r", b" ", b"\t", b",", b"\0", b"0", b"-1", b"1e9", b'"'),
        *("红.jpg 4".encode(), "红.jpg 4".encode("gb18030")),
    ]
)
TEXTS = st.one_of(st.binary(max_size=200), st.lists(WORDS, max_size=30).map(b"".join))


@pytest.mark.parametrize("reader", [TEXT_LIST, TABLE], ids=lambda f: f.name)
@cases(60)
@given(text=TEXTS)
def test_any_list(reader: object, text: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    path = folder / ("train_list.txt" if reader is TEXT_LIST else "t.csv")
    path.write_bytes(text)
    problems = Problems()
    try:
        rows = reader.read(Source(path), problems)  # type: ignore[attr-defined]
    except ShituError:
        return
    rows = check_lines(rows, problems)
    assert not any(leads_outside(rows.root, p) for p in rows.paths)
    if not len(rows):
        return
    everything = list(range(len(rows)))
    trained = [n for n in everything if rows.labels[n] != "-1"]
    if not trained:
        return
    names, _ = number_classes(rows, Split(trained, [], [], "none", ""), {})
    images = image_list(rows, trained, names, {})
    out = tmp_path / "workspace" / "list.txt"
    write_list(out, images)
    back = read_list(out)
    assert back.paths() == images.paths() and back.labels.tolist() == images.labels.tolist()
    write_label_map(out.with_name("label_map.txt"), names)
    assert read_label_map(out.with_name("label_map.txt")) == names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "workspace"]
    assert [p.name for p in folder.iterdir() if p != path] in ([], ["t.csv"], ["train_list.txt"])
