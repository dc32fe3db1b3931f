"""Sources of a few bytes that would fill the memory: `prepare` refuses them by what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.inputs import MIB
from shitu_cli.inputs.json_files import memory_of_json
from shitu_cli.preparation.formats.parquet_tables import _values_of
from tests.bombs import BOMBS
from tests.command import shitu
from tests.conftest import MakeImages
from tests.stores.samples import drawn


def test_images_of_too_many_pixels_are_reported(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    whole, bombs = cv2.imdecode, set(BOMBS.values())

    def decode(data: np.ndarray, flags: int) -> np.ndarray | None:
        assert data.tobytes() not in bombs
        return whole(data, flags)

    monkeypatch.setattr("cv2.imdecode", decode)
    make_images(tmp_path / "photos", 2, 4)
    for number, data in enumerate(BOMBS.values()):
        (next((tmp_path / "photos").iterdir()) / f"bomb{number}.jpg").write_bytes(data)
    done = shitu("prepare", "photos", "--fix", "-w", "work", cwd=tmp_path)
    assert all(f"bomb{number}.jpg" not in _lists(tmp_path) for number in range(len(BOMBS)))
    assert "not an image" in done.stdout + done.stderr


def _lists(folder: Path) -> str:
    return "".join(file.read_text() for file in (folder / "work/lists").glob("*.txt"))


def test_a_table_of_one_image_in_all_rows_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    import pyarrow.parquet as parquet

    count = 300_000
    image = pyarrow.DictionaryArray.from_arrays(np.zeros(count, np.int32), pyarrow.array([drawn((0, 0))]))
    table = pyarrow.table({"image": image.cast(pyarrow.binary()), "label": pyarrow.array(["kiwi"] * count)})
    parquet.write_table(table, tmp_path / "t.parquet")
    done = shitu("prepare", "t.parquet", "-w", "work", cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert "t.parquet expands to many times its size, as no file of images does" in done.stderr


def test_texts_that_are_equal_are_one_object(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"label": ["x" * 1000, None, "x" * 1000, "y"]}), tmp_path / "t.parquet")
    column = parquet.ParquetFile(tmp_path / "t.parquet", read_dictionary=["label"]).read().column(0)
    values = _values_of(column)
    assert values == ["x" * 1000, None, "x" * 1000, "y"] and values[0] is values[2]
    assert _values_of(pyarrow.chunked_array([[1, None], [3]])) == [1, None, 3]


@pytest.mark.parametrize("name", ["coco.json", "records.json"])
def test_json_whose_values_do_not_fit_into_the_memory_is_not_parsed(
    name: str, tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `[[],[],…]`, each three bytes become a hundred."""
    make_images(tmp_path / "photos", 1, 2)
    lists = b"[]," * 6_000_000 + b"[]"
    head = b'{"images": [], "categories": [], "annotations": [' if name == "coco.json" else b'[{"image": "a", "x": ['
    end = b"]}" if name == "coco.json" else b"]}]"
    (tmp_path / "photos" / name).write_bytes(head + lists + end)
    monkeypatch.setattr("shitu_cli.runtime.memory.available_memory", lambda: 500 * MIB)
    done = shitu("prepare", f"photos/{name}", "-w", "work", cwd=tmp_path, check=False)
    assert done.returncode == 5 and f"not enough memory to read photos/{name}: it takes 0.8 GiB" in done.stderr


def test_the_memory_of_usual_annotations_is_not_overrated() -> None:
    box = {"id": 1, "image_id": 2, "bbox": [1.5, 2.5, 30.0, 40.0], "category_id": 3, "segmentation": [[1.0] * 60]}
    data = json.dumps({"annotations": [box] * 1000}).encode()
    assert memory_of_json(data) < 10 * len(data)
