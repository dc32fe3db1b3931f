"""The four steps and what follows them, through the real entry point, on a tiny data set."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from shitu_cli.features.backends import cpu_has_bf16
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import shitu


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., object]) -> Iterator[Path]:
    """A workspace after prepare, train, evaluate and export; tests only read it."""
    root = tmp_path_factory.mktemp("steps") / "ein Ordner 目录"
    root.mkdir()
    make_images(root / "bilder 图", classes=8, per_class=8, size=(80, 64))
    shitu("prepare", "bilder 图", cwd=root)
    shitu("train", "--epochs", "6", "--eval-during-train", "true", cwd=root)
    shitu("evaluate", cwd=root)
    shitu("export", "--out", "inference/", cwd=root)
    shitu("index", "build", cwd=root)
    yield root


def test_what_the_steps_leave(trained: Path) -> None:
    for path in ("lists/train_list.txt", "lists/label_map.txt", "output/best_model.pdparams", "output/latest.pdopt"):
        assert (trained / path).stat().st_size
    for path in ("output/train.log", "output/metrics.jsonl", "output/config.yaml", "reports/prepare.html"):
        assert (trained / path).stat().st_size
    for name in ("inference.pdmodel", "inference.pdiparams", "inference.pdiparams.info", "inference.yml"):
        assert (trained / "inference" / name).stat().st_size
    kinds = [json.loads(line)["kind"] for line in (trained / "output/metrics.jsonl").read_text().splitlines()]
    assert {"epoch", "eval", "save"} <= set(kinds)


def test_the_loss_falls_and_the_features_are_good(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "output/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "epoch"]
    assert losses[-1] < losses[0]
    assert json.loads((trained / "reports/evaluate.json").read_text())["metrics"]["recall@1"] > 0.9


def test_evaluate_gives_json_alone_on_stdout(trained: Path) -> None:
    done = shitu("evaluate", "--json", cwd=trained)
    values = json.loads(done.stdout)
    assert {"metrics", "queries", "gallery", "unanswerable"} <= set(values)
    assert values["queries"] == 16 and values["unanswerable"] == 0
    assert values == json.loads((trained / "reports/evaluate.json").read_text())


@pytest.mark.parametrize(
    "model", ["inference", "inference/inference.pdmodel", "output/latest", "output/best_model.pdparams"]
)
def test_evaluate_other_models(trained: Path, model: str) -> None:
    values = json.loads(shitu("evaluate", "--model", model, "--json", cwd=trained).stdout)
    assert values["metrics"]["recall@1"] > 0.9


def test_search_agrees_with_evaluate(trained: Path) -> None:
    queries = (trained / "lists/query_list.txt").read_text().splitlines()
    names = dict(line.split("\t") for line in (trained / "lists/label_map.txt").read_text().splitlines())
    files = [f"bilder 图/{line.split(chr(9))[0]}" for line in queries]
    wanted = [names[line.split("\t")[1]] for line in queries]
    results = json.loads(shitu("search", *files, "--top", "3", "--json", cwd=trained).stdout)["results"]
    top1 = np.mean([r["matches"][0]["label"] == w for r, w in zip(results, wanted, strict=True)])
    expected = json.loads((trained / "reports/evaluate.json").read_text())["metrics"]["recall@1"]
    assert top1 == expected
    assert all(len(r["matches"]) == 3 and (trained / r["matches"][0]["path"]).is_file() for r in results)


def test_extract_gives_unit_vectors_and_the_python_door_the_same(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npy"
    shitu("extract", "bilder 图", "--out", str(out), cwd=trained)
    features = np.load(out)
    lines = out.with_suffix(".tsv").read_text().splitlines()[1:]
    assert features.shape == (64, 1280) and len(lines) == 64
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    script = (
        "import sys, numpy as np; from shitu_cli import Extractor; e = Extractor('inference');"
        "f = e.extract([line.split('\\t')[0] for line in open(sys.argv[1]).read().splitlines()[1:]]);"
        "assert 'rich' not in sys.modules and 'typer' not in sys.modules; np.save(sys.argv[2], f)"
    )
    argv = [sys.executable, "-c", script, str(out.with_suffix(".tsv")), str(tmp_path / "g.npy")]
    subprocess.run(argv, cwd=trained, check=True, capture_output=True)
    assert np.array_equal(np.load(tmp_path / "g.npy"), features)


@pytest.mark.parametrize("suffix", [".npz", ".jsonl", ".parquet"])
def test_extract_to_other_files(trained: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an optional package")
    out = tmp_path / f"f{suffix}"
    shitu("extract", "bilder 图/class_000", "--out", str(out), cwd=trained)
    if suffix == ".npz":
        with np.load(out) as data:
            assert data["features"].shape == (8, 1280) and len(data["paths"]) == 8
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(rows) == 8 and len(rows[0]["feature"]) == 1280
    else:
        table = parquet.read_table(out)
        assert table.num_rows == 8 and table.column_names == ["path", "label", "feature"]


def test_unreadable_pictures_are_listed_and_left_out(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    good = min((trained / "bilder 图/class_001").iterdir())
    (tmp_path / "p/a.jpg").write_bytes(good.read_bytes())
    (tmp_path / "p/b.jpg").write_bytes(b"no picture")
    done = shitu("extract", str(tmp_path / "p"), "--out", str(tmp_path / "f.npy"), cwd=trained)
    assert "1 of 2 images could not be read" in done.stderr and "b.jpg" in done.stderr
    assert np.load(tmp_path / "f.npy").shape[0] == 1
    again = ("extract", str(tmp_path / "p"), "--strict", "--out", str(tmp_path / "g.npy"))
    assert shitu(*again, cwd=trained, check=False).returncode == 3


@pytest.mark.slow
def test_all_formats_are_proven(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    formats = ("--format", "pdmodel,pir", "--format", "onnx")
    values = json.loads(shitu("export", "--out", str(out), *formats, "--normalize", "--json", cwd=trained).stdout)
    plain = [row for row in values["proof"] if row["precision"] == "fp32"]
    assert {row["file"] for row in plain} == {"inference.pdmodel", "inference.json", "inference.onnx"}
    assert all(row["min_cosine"] > 0.9999 and row["refused"] is None for row in plain)
    assert values["chosen"]["precision"] == "fp32" and "ms per image" in values["chosen"]["reason"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["normalized_inside"] and manifest["feature_size"] == 1280
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(str(out / "inference.onnx")).graph
    assert [v.name for v in graph.input] == ["x"] and [v.name for v in graph.output] == ["features"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    deployed = yaml.safe_load((out / "inference.yml").read_text())
    assert deployed["Global"]["model_name"] == "PP-ShiTuV2_rec"
    assert [next(iter(op)) for op in deployed["PreProcess"]["transform_ops"]] == [
        "ResizeImage",
        "NormalizeImage",
        "ToCHWImage",
    ]


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU does not compute in bfloat16")
def test_bfloat16_is_used_where_it_was_chosen_and_told_apart(trained: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "coarse")
    done = shitu("export", "--out", out, "--precision", "bf16", "--max-recall-drop", "0.5", cwd=trained)
    assert " in bfloat16: " in done.stdout and "inference.json" in done.stdout and "0.00 MB" not in done.stdout
    manifest = json.loads((tmp_path / "coarse/manifest.json").read_text())
    coarse = [row for row in manifest["proof"]["rows"] if row["precision"] == "bf16"]
    assert manifest["precision"] == "bf16" and manifest["proof"]["max_recall_drop"] == 0.5
    assert coarse and all(
        row["min_cosine"] > 0.98 and row["program"] in ("Paddle Inference", "OpenVINO") for row in coarse
    )
    done = shitu("evaluate", "--model", out, cwd=trained)
    assert f"{out}, run by " in done.stdout and " in bfloat16: " in done.stdout
    # The index holds float32 features of the same weights.
    query = "bilder 图/class_000/000.jpg"
    done = shitu("search", query, "--model", out, cwd=trained, check=False)
    assert done.returncode == 3 and "shitu index build" in done.stderr


def test_a_half_deleted_model_is_named(trained: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(trained / "inference", broken)
    (broken / "inference.onnx").unlink()
    (broken / "inference.pdiparams").unlink()
    done = shitu("extract", "bilder 图", "--model", str(broken), cwd=trained, check=False)
    assert done.returncode == 3 and "inference.pdiparams is missing" in done.stderr
    (broken / "inference.pdiparams").write_bytes(b"x" * 100)
    done = shitu("extract", "bilder 图", "--model", str(broken), cwd=trained, check=False)
    assert done.returncode == 3 and "hash differs" in done.stderr


def test_export_never_replaces_the_files_of_others(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = shitu("export", "--out", str(tmp_path), cwd=trained, check=False)
    assert done.returncode == 2 and "notes.txt" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_weights_in_another_kind_of_file_are_exported(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.npz"
    np.savez(file, **read_paddle(trained / "output/best_model.pdparams"))
    shitu("export", "--checkpoint", str(file), "--format", "pdmodel", "--out", str(tmp_path / "out"), cwd=trained)
    source = json.loads((tmp_path / "out/manifest.json").read_text())["source"]
    assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_status_says_where_we_are(trained: Path, tmp_path: Path) -> None:
    done = shitu(cwd=trained)
    assert "6 epochs" in done.stdout and "recall@1" in done.stdout and "64 vectors" not in done.stdout
    assert "next: shitu search" in done.stdout
    state = json.loads(shitu("--json", cwd=trained).stdout)
    assert state["workspace"] == str(trained) and state["next"] == "shitu search photo.jpg"
    assert [step["step"] for step in state["steps"]] == ["prepare", "train", "evaluate", "export", "index"]
    assert "shitu prepare ./data" in shitu(cwd=tmp_path).stdout


def test_config_tells_where_values_come_from(trained: Path) -> None:
    done = shitu("config", "epochs", "-o", "Global.epochs=3", cwd=trained)
    assert "-o Global.epochs" in done.stdout
    assert "shitu.yaml:" in shitu("config", "class_num", cwd=trained).stdout
    text = shitu("config", "--yaml", cwd=trained).stdout
    assert yaml.safe_load(text)["Arch"]["Head"]["class_num"] == 8
