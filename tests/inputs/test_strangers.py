"""Whatever a stranger's file holds: its reader answers at once, or with an error of the program, and writes nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import ShituError
from tests.hostile import PLACES, TEXTS, at_once
from tests.inputs.index_kinds import FEATURES, ID_MAP, ITEMS, MANIFEST, SHARD
from tests.inputs.list_kinds import LABEL_MAP, LIST, SHEET, TEXT
from tests.inputs.model_kinds import DETECTOR, INFERENCE
from tests.mutations import at_least, cases, mutations
from tests.preparation.test_annotations import spoilt

KINDS = {
    "list": LIST,
    "label map": LABEL_MAP,
    "items": ITEMS,
    "manifest": MANIFEST,
    "id map": ID_MAP,
    "features' table": FEATURES,
    "shard": SHARD,
    "inference.yml": INFERENCE,
    "infer_cfg.yml": DETECTOR,
}
# Bytes of these are tried by tests/preparation/test_any_source.py.
PREPARED = {"text list to prepare": TEXT, "table to prepare": SHEET}
WORDS = [
    *(b"\0", b"\n", b"\r", b"\t", b" ", b",", b":", b"-", b"#", b"\xff", b"\xef\xbb\xbf", b"\x1b[2J", b"9" * 50),
    *(b"nan", b"1e400", b"-1", b"0", b"../", b"/etc/x.jpg", b" " * 3000, b"a" * 300, b"null", b"true", b"\\", b'"'),
    *(b"{", b"}", b"[", b"]", b"&a ", b"*a", b"!!int ", b"!!binary ", b"<<: ", b"? ", b"\\ud800", "1²".encode()),
]
EDITS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 30), st.sampled_from(WORDS) | st.binary(max_size=8)), max_size=6
)


@pytest.fixture
def good(name: str, tmp_path: Path) -> tuple[Path, bytes]:
    """A good file of a kind, and its content."""
    path = KINDS[name].lay_out(tmp_path)
    return path, path.read_bytes()


@pytest.mark.parametrize("name", [*KINDS, *PREPARED])
def test_hostile_files_are_refused_or_harmless(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {**KINDS, **PREPARED}[name]
    accepted = set()
    for number, (what, attack) in enumerate({**PLACES, **TEXTS, **kind.hostile}.items()):
        folder = tmp_path / str(number) / "own"
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        path = kind.lay_out(folder)
        whole = path.read_bytes()
        path.unlink()
        if what in kind.hostile:
            path.write_bytes(attack(whole) if callable(attack) else attack)
        else:
            attack(path)
        try:
            with at_once():
                kind.read(path)
        except ShituError as error:
            assert error.message and "Error:" not in error.message, what  # nothing that a reader does not know itself
        else:
            accepted.add(what)
        assert [file.name for file in folder.parent.iterdir()] == ["own"], what
        assert not (folder / "ran").exists(), what
    assert accepted == kind.harmless


@pytest.mark.fuzz
@pytest.mark.parametrize("name", KINDS)
def test_no_mutation_gets_through_with_another_error(name: str, good: tuple[Path, bytes]) -> None:
    kind, (path, whole) = KINDS[name], good
    kind.read(path)
    for data in mutations(whole, at_least(kind.cases)):
        path.write_bytes(data)
        with contextlib.suppress(ShituError):
            kind.read(path)


@pytest.mark.parametrize("name", KINDS)
@cases(30)
@given(edits=EDITS, data=st.none() | st.binary(max_size=200) | st.lists(st.sampled_from(WORDS)).map(b"".join))
def test_any_bytes_are_read_or_refused(
    name: str, edits: list[tuple[int, int, bytes]], data: bytes | None, good: tuple[Path, bytes]
) -> None:
    path, whole = good
    path.write_bytes(spoilt(whole, edits) if data is None else data)
    with contextlib.suppress(ShituError):
        KINDS[name].read(path)
