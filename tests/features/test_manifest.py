"""Manifests of strangers: every value is looked at, and what no export writes is an error that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.errors import DataError
from shitu_cli.features.manifest import read_manifest
from shitu_cli.features.selection import load_engine
from tests.mutations import at_least, mutations

_ROW = {
    "file": "inference.onnx", "program": "ONNX Runtime", "precision": "fp32", "open_ms": 1.0,
    "latency_ms": {"batch 1, 1 thread": [1.0], "batch 32, 1 thread": [2.0]},
}  # fmt: skip


def _set(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update(changes)


def _row(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return _set(proof={"rows": [{**_ROW, **changes}]})


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a feature size of text": (_set(feature_size="1280"), "feature_size is a str"),
    "a feature size of truth": (_set(feature_size=True), "feature_size is a bool"),
    "a negative feature size": (_set(feature_size=-1), "feature_size is -1"),
    "a huge feature size": (_set(feature_size=10**12), "feature_size is 1000000000000"),
    "no feature size": (lambda values: values.pop("feature_size"), "feature_size is a NoneType"),
    "a huge image": (_set(image_shape=[3, 10**9, 10**9]), "image_shape is"),
    "an image of two sizes": (_set(image_shape=[3, 224]), "image_shape is"),
    "an image of text": (_set(image_shape="224"), "image_shape is a str"),
    "transforms of text": (_set(transform_ops="x"), "transform_ops is a str"),
    "two transforms in one": (_set(transform_ops=[{"a": {}, "b": {}}]), "single operations"),
    "a transform of text": (_set(transform_ops=[{"ResizeImage": "x"}]), "the arguments of ResizeImage are a str"),
    "a huge transform": (_set(transform_ops=[{"ResizeImage": {"size": [10**9, 1]}}]), "too large"),
    "a deviation of zero": (_set(normalization={"mean": [0, 0, 0], "std": [0, 1, 1], "scale": 1}), "zero"),
    "a mean of text": (_set(normalization={"mean": ["0", 0, 0], "std": [1, 1, 1], "scale": 1}), "three means"),
    "a normalization of text": (_set(normalization="x"), "expected a table with mean"),
    "files of numbers": (_set(files={"inference.onnx": 1}), "names and hashes"),
    "a list of files": (_set(files=[]), "files is a list"),
    "an unknown precision": (_set(precision="int4"), "precision is 'int4'"),
    "an unknown key": (_set(surprise=1), "unknown key 'surprise'"),
    "a proof of text": (_set(proof={"rows": ["x"]}), "expected a table with file"),
    "a proof of another file": (_row(file="../../x"), "a file or a program that is not known"),
    "a proof by another program": (_row(program="sh"), "a file or a program that is not known"),
    "a proof that opens in text": (_row(open_ms="1"), "no time for opening"),
    "a proof without times": (_row(latency_ms={}), "lacks the times"),
    "a proof with times of text": (_row(latency_ms={"batch 1,": ["x"]}), "no time for 'batch 1,'"),
    "no format": (lambda values: values.pop("format"), "another version"),
}


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


def test_proofs_of_before_all_of_it_was_measured_are_read(tmp_path: Path) -> None:
    values = {
        "format": 1, "feature_size": 4, "normalized_inside": False, "image_shape": [3, 8, 8], "transform_ops": [],
        "feature": "features", "model": {}, "source": {}, "files": {},
    }  # fmt: skip
    for missing in (["open_ms"], ["open_ms", "program", "precision"]):
        row = {key: value for key, value in _ROW.items() if key not in missing}
        (tmp_path / "manifest.json").write_text(json.dumps({**values, "proof": {"rows": [row]}}))
        assert read_manifest(tmp_path).proof == {"rows": [row]}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_refused(folder: Path, name: str) -> None:
    change, reason = HOSTILE[name]
    file = folder / "manifest.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(folder)
    assert str(file) in caught.value.message and "shitu export" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": 1, "feature_size": NaN}', "\xff", "1", "null", '{"format": 1e999}']
)
def test_what_is_no_manifest_is_damaged(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        read_manifest(folder)


def test_a_feature_size_that_is_not_the_model_s_is_said(folder: Path) -> None:
    file = folder / "manifest.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "feature_size": 7}))
    engine = load_engine(folder)
    with pytest.raises(DataError, match="gives 1280 numbers for an image, its description says 7"):
        engine(np.zeros((2, 64, 64, 3), np.uint8))


@pytest.mark.fuzz
def test_any_bytes_are_a_manifest_or_a_data_error(folder: Path) -> None:
    file = folder / "manifest.json"
    for data in mutations(file.read_bytes(), at_least(300)):
        file.write_bytes(data)
        try:
            read_manifest(folder)
        except DataError as error:
            assert str(file) in error.message
