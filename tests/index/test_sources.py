"""Feature files are read back as they were written; what does not fit is named."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, ShituError, UsageError
from shitu_cli.features.origin import Origin, note_origin
from shitu_cli.files import try_lock
from shitu_cli.index import sources
from shitu_cli.index.files import save_index
from shitu_cli.index.foreign import foreign_items
from shitu_cli.index.sources import read_features
from shitu_cli.index.store import KINDS, BuildOptions
from shitu_cli.index.vectors import VectorIndex
from tests.index.made import gallery, vectors
from tests.mutations import at_least, mutations

PATHS, LABELS = ["a b.jpg", "红.jpg", "c.jpg"], ["x", "", "red apple"]


def write(file: Path, features: np.ndarray) -> None:
    """As `shitu extract` writes them."""
    if file.suffix == ".npy":
        np.save(file, features)
        lines = [f"{path}\t{label}\n" for path, label in zip(PATHS, LABELS, strict=True)]
        file.with_suffix(".tsv").write_text("path\tlabel\n" + "".join(lines))
    elif file.suffix == ".npz":
        np.savez(file, features=features, paths=np.asarray(PATHS), labels=np.asarray(LABELS))
    elif file.suffix == ".jsonl":
        rows = zip(PATHS, LABELS, features.tolist(), strict=True)
        file.write_text("".join(json.dumps({"path": p, "label": n, "feature": f}) + "\n" for p, n, f in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
        import pyarrow.parquet as parquet

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), features.shape[1])
        parquet.write_table(pyarrow.table({"path": PATHS, "label": LABELS, "feature": values}), file)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_every_format(suffix: str, tmp_path: Path) -> None:
    features = vectors(3)
    write(tmp_path / f"f{suffix}", features)
    table = read_features(tmp_path / f"f{suffix}").table
    assert np.array_equal(table.features, features) and table.features.dtype == np.float32
    assert list(table.labels) == LABELS and list(table.paths) == PATHS


def test_parquet_of_labels_that_many_rows_have(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    import pyarrow.parquet as parquet

    labels, paths = ["x", None, "", "y"] * 50, [f"{n}.jpg" for n in range(200)]
    table = {"path": paths, "label": labels, "feature": vectors(200).tolist()}
    parquet.write_table(pyarrow.table(table), tmp_path / "f.parquet", row_group_size=150)
    read = read_features(tmp_path / "f.parquet").table
    assert list(read.labels) == [label or "" for label in labels] and list(read.paths) == paths


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet", ".index"])
def test_damage_is_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"f{suffix}"
    if suffix == ".index":
        file.write_bytes(b"IxM2")
    else:
        write(file, vectors(3))
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"f\{suffix}"):
        read_features(file)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_built_from_another_one_with_all_that_it_knows(kind: str, tmp_path: Path) -> None:
    """To change its kind: its paths and its model were lost."""
    index = VectorIndex.build(gallery(30), BuildOptions(kind, model="m"))
    index.remove([3])
    save_index(index, tmp_path / "i")
    if kind == "binary":
        with pytest.raises(DataError, match="only the signs"):
            read_features(tmp_path / "i/vector.index")
        return
    table, model = read_features(tmp_path / "i/vector.index")
    assert model == "m" and list(table.paths) == [item.path for item in index.items()]
    again = VectorIndex.build(table, BuildOptions(model=model))
    assert [m.path for m in again.search(vectors(1), 9)[0]] == [m.path for m in index.search(vectors(1), 9)[0]]


def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ends in"):
        read_features(tmp_path / "f.csv")
    with pytest.raises(UsageError, match="no such file"):
        read_features(tmp_path / "f.npy")
    write(tmp_path / "f.npy", vectors(3))
    np.save(tmp_path / "f.npy", vectors(4))
    with pytest.raises(DataError, match=r"4 vectors, but 3 lines in f\.tsv"):
        read_features(tmp_path / "f.npy")
    np.save(tmp_path / "f.npy", np.arange(3))
    with pytest.raises(DataError, match="rows of real numbers"):
        read_features(tmp_path / "f.npy")
    write(tmp_path / "f.jsonl", vectors(3))
    lines = (tmp_path / "f.jsonl").read_text().splitlines()
    (tmp_path / "f.jsonl").write_text("\n".join([*lines, '{"path": "d", "feature": [1, 2]}']))
    with pytest.raises(DataError, match=r"f\.jsonl:4: 2 values, expected 24"):
        read_features(tmp_path / "f.jsonl")
    (tmp_path / "f.jsonl").write_text("")
    with pytest.raises(DataError, match="no vectors"):
        read_features(tmp_path / "f.jsonl")


def test_a_npy_stays_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "f.npy", vectors(3))
    assert isinstance(read_features(tmp_path / "f.npy").table.features, np.memmap)


def noted(file: Path, model: str) -> None:
    digests = [hashlib.sha256(part.read_bytes()).hexdigest() for part in (file, file.with_suffix(".tsv"))]
    note_origin(file, Origin(model, *digests))


def test_vectors_and_table_of_two_runs_are_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a kill leaves between the replacements is one of the two runs, or refused."""
    monkeypatch.setattr(sources, "PAUSE", 0.001)
    names = ("f.npy", "f.tsv")
    runs = []
    for model, seed in (("first", 0), ("second", 1)):
        write(tmp_path / "f.npy", vectors(3, seed=seed))
        (tmp_path / "f.tsv").write_text(f"path\tlabel\na\t{model}\nb\t{model}\nc\t{model}\n")
        noted(tmp_path / "f.npy", model)
        runs.append({name: (tmp_path / name).read_bytes() for name in names})
    for states in itertools.product(range(2), repeat=2):
        for name, state in zip(names, states, strict=True):
            (tmp_path / name).write_bytes(runs[state][name])
        if states[0] == states[1]:
            table, model = read_features(tmp_path / "f.npy")
            assert model == ("first", "second")[states[0]] and set(table.labels) == {model}
            assert np.array_equal(table.features, vectors(3, seed=states[0]))
        else:
            with pytest.raises(DataError, match=r"f\.tsv does not belong to the vectors of .*f\.npy") as caught:
                read_features(tmp_path / "f.npy")
            assert caught.value.hint and "run shitu extract again" in caught.value.hint
    # Vectors of somebody else are taken as they are; the note is not about them.
    write(tmp_path / "f.npy", vectors(3, seed=5))
    assert read_features(tmp_path / "f.npy").model == ""


def test_the_array_of_a_killed_run_is_moved_to_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is replaced first: killed after that, the array lies finished beside the former one."""
    monkeypatch.setattr(sources, "PAUSE", 0.001)
    array, table, left = (tmp_path / name for name in ("f.npy", "f.tsv", ".f.npy.abcd1234.tmp"))
    write(array, vectors(3, seed=0))
    noted(array, "first")
    former = array.read_bytes()
    write(array, vectors(3, seed=1))
    table.write_text(table.read_text().replace("x", "y"))
    noted(array, "second")
    finished = array.read_bytes()
    array.write_bytes(former)
    for content in (b"", finished[:-1], former):  # not the one that belongs to the table
        left.write_bytes(content)
        with pytest.raises(DataError, match="does not belong"):
            read_features(array)
        assert array.read_bytes() == former
    left.unlink()
    os.mkfifo(left)
    with pytest.raises(DataError, match="does not belong"):
        read_features(array)
    left.unlink()
    left.write_bytes(finished)
    with left.open("rb+") as held:  # its process is still at work
        assert try_lock(held)
        with pytest.raises(DataError, match="does not belong"):
            read_features(array)
    (features, labels, _), model = read_features(array)
    assert model == "second" and "y" in labels and np.array_equal(features, vectors(3, seed=1))
    assert not left.exists() and array.read_bytes() == finished


def test_a_table_that_is_about_to_be_replaced_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "f.npy", vectors(3))
    noted(tmp_path / "f.npy", "m")
    right = (tmp_path / "f.tsv").read_bytes()
    (tmp_path / "f.tsv").write_bytes(right.replace(b"x", b"y"))
    monkeypatch.setattr(time, "sleep", lambda seconds: (tmp_path / "f.tsv").write_bytes(right))
    assert list(read_features(tmp_path / "f.npy").table.labels) == LABELS


def header(shape: str, descr: str = "'<f4'", fortran: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(**arrays: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in arrays.items():
            file.writestr(f"{name}.npy", content)
    return packed.getvalue()


def saved(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


TEXTS = saved(np.asarray(["a", "b"]))
LINE = {"path": "a", "label": "b", "feature": [1.0, 2.0]}
HOSTILE = {
    ".npy": [
        b"",
        b"\x93NUMPY",
        header("()"),
        header("(0, 24)"),
        header("(2, 0)"),
        header("(2, 4611686018427387904)"),
        header("(1000000000, 512)") + b"\0" * 100,
        header("(2, 2)", "'|O'") + b"\x80\x04K\x01." * 2,
        header("(2, 2)", "[('a', '<f4')]") + b"\0" * 16,
        header("(2, 2)", "__import__('os').system('true')"),
        header("(2, 2)") + b"\0" * 15,
        header("(2, 2)", "'<i4'") + b"\0" * 16,
        header("(" + "2, " * 200 + ")"),
    ],
    ".npz": [
        b"",
        b"PK\x05\x06" + b"\0" * 18,
        archive(features=saved(vectors(2))),
        archive(features=saved(vectors(2)), labels=TEXTS, paths=saved(np.asarray([1, 2]))),
        archive(features=saved(vectors(2)), labels=TEXTS, paths=saved(np.asarray([["a", "b"]]))),
        archive(features=saved(vectors(2)), labels=TEXTS, paths=saved(np.asarray(["a"]))),
        archive(features=header("(2, 2)", "'|O'"), labels=TEXTS, paths=TEXTS),
        archive(features=header("(1000000000, 512)"), labels=TEXTS, paths=TEXTS),
        archive(features=saved(np.zeros((1 << 14, 512), np.float32)), labels=TEXTS, paths=TEXTS),
        archive(features=b"", labels=b"", paths=b""),
        archive(features=saved(vectors(2)), labels=TEXTS, paths=TEXTS).replace(b"PK\x03\x04", b"PK\x03\x05"),
    ],
    ".jsonl": [
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        json.dumps({**LINE, "feature": []}).encode(),
        json.dumps({**LINE, "feature": [[1.0], [2.0]]}).encode(),
        json.dumps({**LINE, "feature": ["1", "2"]}).encode(),
        json.dumps({**LINE, "feature": [True, None]}).encode(),
        json.dumps({**LINE, "feature": [1e300, 0]}).encode(),
        json.dumps({**LINE, "feature": [float("nan"), 0]}).encode(),
        json.dumps({**LINE, "path": None}).encode(),
        json.dumps({**LINE, "label": {"a": 1}}).encode(),
        b'{"path": "a", "feature": ' + b"[" * 100_000,
        b'{"path": "a", "feature": [' + b"9" * 5000 + b"]}",
        json.dumps({**LINE, "feature": [1] * 500}).encode() + b"\n{}" * 100_000,
    ],
    ".parquet": [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1"],
}


@pytest.mark.parametrize(
    ("suffix", "number"), [(kind, n) for kind, files in HOSTILE.items() for n in range(len(files))]
)
def test_hostile_files_are_refused(suffix: str, number: int, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="parquet is an extra")
    (tmp_path / f"f{suffix}").write_bytes(HOSTILE[suffix][number])
    (tmp_path / "f.tsv").write_text("path\tlabel\na\tx\nb\ty\n")
    with pytest.raises(DataError, match=rf"f\{suffix}"):
        read_features(tmp_path / f"f{suffix}")


@pytest.mark.parametrize("columns", ["no text", "no lists", "ragged", "uneven", "none", "missing", "strings", "nulls"])
def test_parquet_of_other_columns_is_refused(columns: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    import pyarrow.parquet as parquet

    table: dict[str, list[object]] = {"path": ["a", "b"], "label": ["x", "y"], "feature": [[1.0, 2.0], [3.0, 4.0]]}
    table |= {
        "no text": {"path": [1, 2]},
        "no lists": {"feature": [1.0, 2.0]},
        "ragged": {"feature": [[1.0], [2.0, 3.0]]},
        "uneven": {"feature": [[1.0], [2.0, 3.0, 4.0]]},
        "none": {"feature": [[], []]},
        "missing": {},
        "strings": {"feature": [["a"], ["b"]]},
        "nulls": {"feature": [None, [1.0, 2.0]]},
    }[columns]
    if columns == "missing":
        del table["label"]
    parquet.write_table(pyarrow.table(table), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"f\.parquet"):
        read_features(tmp_path / "f.parquet")


@pytest.mark.fuzz
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet", ".pkl"])
def test_no_bytes_get_through_with_another_error(suffix: str, tmp_path: Path) -> None:
    """Damaged versions of whole files are read as they are, or refused with an error of ours."""
    if suffix == ".pkl":
        file, read = tmp_path / "id_map.pkl", lambda: foreign_items(tmp_path)
        file.write_bytes(pickle.dumps({n: f"p/{n}.jpg label" for n in range(20)}))
    else:
        file, read = tmp_path / f"f{suffix}", lambda: read_features(file)
        write(file, vectors(3, size=4))
    passed = 0
    for data in mutations(file.read_bytes(), at_least(400)):
        file.write_bytes(data)
        try:
            read()
        except ShituError:
            continue
        passed += 1
    assert passed
