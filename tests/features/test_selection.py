"""What a path means: directories whole, half deleted and altered; which way is chosen, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from shitu_cli.config.load import load_config
from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.features import backends
from shitu_cli.features.backends import BF16, FP32, ONNX_RUNTIME, OPENVINO, PADDLE, Way
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.manifest import read_manifest
from shitu_cli.features.selection import Request, fastest, load_engine, prepared_for
from shitu_cli.reporting import SilentReporter
from shitu_cli.steps.evaluate import settings_for


def _row(way: Way, alone: float, many: float, refused: str | None = None) -> dict[str, Any]:
    times = {"batch 1, threads 1": [9, 9], "batch 32, threads 1": [9, 9]}
    times |= {"batch 1, threads 2": [alone, alone], "batch 32, threads 2": [many, many]}
    return {**dataclasses.asdict(way), "latency_ms": times, "refused": refused}


ONNX, PDMODEL = Way("inference.onnx", ONNX_RUNTIME), Way("inference.pdmodel", PADDLE)
JSON_BF16, OPENVINO_FP32 = Way("inference.json", PADDLE, BF16), Way("inference.onnx", OPENVINO)


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(exported, tmp_path / "inference")
    return tmp_path / "inference"


def _edit(folder: Path, **values: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_fastest_for_about_so_many_pictures() -> None:
    rows = [_row(ONNX, alone=1, many=3), _row(PDMODEL, alone=2, many=2)]
    assert fastest(rows, 32) == (
        PDMODEL,
        "2.00 ms per image in batches of 32 (ONNX Runtime inference.onnx 3.00)",
    )
    assert fastest(rows, 1) == (ONNX, "1.00 ms per image alone (Paddle Inference inference.pdmodel 2.00)")
    assert fastest(rows, 5)[0] == ONNX and fastest(rows, 6)[0] == PDMODEL
    # Rows of before there were several backends.
    for row in rows:
        del row["program"], row["precision"], row["refused"]
    assert fastest(rows, 32)[0] == PDMODEL and fastest(rows, 1)[0] == ONNX


def test_for_few_images_a_way_that_opens_quickly_is_better() -> None:
    rows = [{**_row(OPENVINO_FP32, alone=1, many=1), "open_ms": 300}, {**_row(ONNX, alone=2, many=2), "open_ms": 50}]
    assert fastest(rows, 1)[0] == OPENVINO_FP32  # one at a time, but many of them
    assert fastest(rows, 1, images=1) == (
        ONNX,
        "2.00 ms per image alone, opens in 50 ms (OpenVINO inference.onnx 1.00)",
    )
    assert fastest(rows, 32, images=249)[0] == ONNX and fastest(rows, 32, images=251)[0] == OPENVINO_FP32
    del rows[0]["open_ms"]  # an export of before it was measured
    assert fastest(rows, 1, images=1)[0] == OPENVINO_FP32


def test_what_was_measured_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: True)
    rows = [_row(ONNX, 1, 3), _row(PDMODEL, 2, 2), _row(JSON_BF16, 0.1, 0.1)]
    _edit(folder, proof={"rows": rows}, precision="fp32")
    assert load_engine(folder).description == "Paddle Inference"
    assert load_engine(folder, request=Request(batch_size=1)).description == "ONNX Runtime"
    assert load_engine(folder / "inference.onnx").description == "ONNX Runtime"
    # bfloat16 only when asked for, or chosen at the export; then its features are told apart.
    coarse = load_engine(folder, request=Request(precision="bf16"))
    assert coarse.description == "Paddle Inference in bfloat16"
    assert coarse.fingerprint == load_engine(folder).fingerprint + "/bf16"
    _edit(folder, precision="bf16")
    assert load_engine(folder).fingerprint == coarse.fingerprint
    assert load_engine(folder, request=Request(precision="fp32")).description == "Paddle Inference"
    # The file named cannot do it.
    assert load_engine(folder / "inference.onnx").description == "ONNX Runtime"


def test_refusals_of_a_precision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(folder, proof={"rows": [_row(ONNX, 1, 3), _row(JSON_BF16, 0.1, 0.1, "recall@1 falls")]})
    with pytest.raises(DataError, match="in bf16 was measured when it was exported and refused: recall@1 falls"):
        load_engine(folder, request=Request(precision="bf16"))
    _edit(folder, proof={"rows": [_row(ONNX, 1, 3)]})
    with pytest.raises(UsageError, match="was not exported for bf16") as caught:
        load_engine(folder, request=Request(precision="bf16"))
    assert "shitu export --precision bf16" in str(caught.value.hint)
    with pytest.raises(UsageError, match="precision int4: expected fp32 or bf16"):
        load_engine(folder, request=Request(precision="int4"))
    # Exported where the CPU had it, deployed where it has not.
    _edit(folder, proof={"rows": [_row(ONNX, 1, 3), _row(JSON_BF16, 0.1, 0.1)]}, precision="bf16")
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: False)
    with pytest.raises(EnvironmentProblem, match="this CPU does not compute in bfloat16"):
        load_engine(folder)
    assert load_engine(folder, request=Request(precision=FP32)).description == "ONNX Runtime"


def test_a_program_that_is_not_there_any_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit(folder, proof={"rows": [_row(ONNX, 2, 2), _row(OPENVINO_FP32, 1, 1)]})
    monkeypatch.setattr(backends, "is_installed", lambda program: program != OPENVINO)
    assert load_engine(folder).description == "ONNX Runtime"


def test_a_half_deleted_directory(folder: Path) -> None:
    (folder / "inference.pdmodel").unlink()
    (folder / "inference.json").unlink()
    (folder / "inference.pdiparams").unlink()
    assert load_engine(folder).run(np.zeros((1, 3, 96, 96), np.float32)).shape == (1, 1280)
    (folder / "inference.onnx").unlink()
    with pytest.raises(DataError, match=r"holds no inference.pdmodel, .json or .onnx"):
        load_engine(folder)


def test_parameters_missing_or_exchanged(folder: Path) -> None:
    (folder / "inference.onnx").unlink()
    params = folder / "inference.pdiparams"
    data = bytearray(params.read_bytes())
    data[len(data) // 2] ^= 1
    params.write_bytes(data)
    with pytest.raises(DataError, match=r"inference.pdiparams is not the file that was exported \(its hash differs"):
        load_engine(folder)
    params.unlink()
    with pytest.raises(DataError, match=r"inference.pdiparams is missing"):
        load_engine(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "{not json", '{"format": 1, "transform_ops": 3}'])
def test_a_damaged_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest.json is damaged") as caught:
        load_engine(folder)
    assert caught.value.hint == "export it again: shitu export --out inference/"


def test_a_manifest_of_another_version(folder: Path) -> None:
    _edit(folder, format=99)
    with pytest.raises(DataError, match=r"manifest.json: written by another version"):
        read_manifest(folder)


def test_without_a_manifest_the_preprocessing_is_asked_for(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"neither manifest.json nor inference.yml, so its preprocessing is not known"):
        load_engine(folder)
    with pytest.raises(UsageError, match="no such model"):
        load_engine(folder.parent / "nothing")


DEPLOYED = """Global: {model_name: PP-ShiTuV2_rec}
PreProcess:
  transform_ops:
  - ResizeImage: {size: [64, 64], backend: cv2, interpolation: bilinear, return_numpy: false}
  - NormalizeImage: {channel_num: 3, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: hwc, scale: 0.00392156862745098}
  - ToCHWImage: null
PostProcess: {NormalizeFeatures: null}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("words", "method"),
    [
        ("backend: pil, interpolation: bicubic", Image.Resampling.BICUBIC),
        ("backend: pil", Image.Resampling.BICUBIC),
        ("backend: pil, interpolation: BILINEAR", Image.Resampling.BILINEAR),
        ("backend: pil, interpolation: LANCZOS4", Image.Resampling.LANCZOS),
        ("backend: cv2, interpolation: LINEAR", None),
    ],
)
def test_images_are_resized_by_the_library_that_inference_yml_names(
    words: str, method: Image.Resampling | None, folder: Path, pictures: list[Path]
) -> None:
    """PaddleX writes names of interpolations in capitals, some of them otherwise than PaddleClas."""
    (folder / "manifest.json").unlink()
    (folder / "inference.yml").write_text(DEPLOYED.replace("backend: cv2, interpolation: bilinear", words))
    images = [Image.open(path).convert("RGB") for path in pictures]
    if method is None:
        arrays = [cv2.resize(np.asarray(image), (64, 64), interpolation=cv2.INTER_LINEAR) for image in images]
    else:
        arrays = [np.asarray(image.resize((64, 64), method)) for image in images]
    expected = load_engine(folder)(np.stack(arrays))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(Extractor(folder).extract(pictures), expected, atol=1e-5)


def test_another_programs_model_is_run_as_its_inference_yml_says(folder: Path, pictures: list[Path]) -> None:
    expected = Extractor(folder).extract(pictures)
    (folder / "manifest.json").unlink()
    (folder / "inference.yml").write_text(DEPLOYED)
    extractor = Extractor(folder)
    assert np.allclose(extractor.extract(pictures), expected, atol=1e-5)
    (folder / "inference.yml").write_text(DEPLOYED.replace("ResizeImage", "ResizeImages").replace("[0.229", "[none"))
    with pytest.raises(DataError, match="does not say how images are prepared") as caught:
        load_engine(folder)
    assert len(caught.value.details) == 2 and "did you mean ResizeImage?" in caught.value.details[0]


def test_an_exported_model_is_evaluated_with_its_own_preprocessing(folder: Path, prepared: Path) -> None:
    """The figures would else be those of images that a search never prepares so, such as of another size."""
    config = load_config(prepared / "shitu.yaml")
    changed, is_other = prepared_for(config, folder)
    assert is_other and changed.DataLoader.query is not None and changed.DataLoader.gallery is not None
    for split in (changed.DataLoader.query, changed.DataLoader.gallery):
        assert tuple(split.dataset.transform_ops) == read_manifest(folder).transform_ops
    assert prepared_for(changed, folder) == (changed, False)
    (folder / "manifest.json").unlink()
    for path in (folder, folder / "inference.onnx", prepared / "output/best_model"):  # nothing there says another way
        assert prepared_for(config, path) == (config, False)


def test_an_option_that_an_exported_model_would_not_follow_is_refused(folder: Path, prepared: Path) -> None:
    option = "DataLoader.Eval.Query.dataset.transform_ops.ResizeImage.size=80"
    config, lines = load_config(prepared / "shitu.yaml", [option]), list[str]()
    with pytest.raises(UsageError, match="prepares images in its own way") as caught:
        settings_for(config, folder, SilentReporter())
    assert "-o DataLoader.Eval.Query.dataset.transform_ops" in caught.value.message
    reporter = SilentReporter()
    reporter.info = lambda text: lines.append(str(text))  # type: ignore[method-assign]
    settings_for(load_config(prepared / "shitu.yaml"), folder, reporter)
    assert lines == [f"{folder} prepares images in its own way, as in a search, not as the config says"]
