"""TopkAcc of a head: how often the class of an image is among its highest logits."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from shitu_cli.errors import DataError
from shitu_cli.files import sha256_of
from shitu_cli.training.classifying import HeadAccuracy, _accuracies
from tests.command import SMALL, shitu


class Head(paddle.nn.Layer):
    """Returns the features as logits."""

    class_num = 4

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x


def part(features: list[list[float]], labels: list[int], skipped: dict[int, str] | None = None) -> SimpleNamespace:
    dataset = SimpleNamespace(labels=np.array(labels), list_path=Path("val.txt"))
    return SimpleNamespace(features=np.array(features, np.float32), dataset=dataset, skipped=skipped or {})


def test_the_right_class_among_the_first_k() -> None:
    logits = [[3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 0, 0], [0, 0, 9, 0], [9, 0, 0, 0]]
    seen = part(logits, [0, 2, 1, 3, -1])
    # Right at once; second; ties go to the smaller class, so second; last of three ties, so fourth; of no class.
    assert _accuracies(Head(), seen, [1, 2, 3]) == HeadAccuracy({"top1": 0.25, "top2": 0.75, "top3": 0.75}, 4, [])
    assert _accuracies(Head(), part(logits, [0, 2, 1, 3, -1], {1: "broken"}), [1]) == HeadAccuracy(
        {"top1": pytest.approx(1 / 3)}, 3, ["broken"]
    )


@pytest.mark.parametrize(("labels", "skipped"), [([-1, -1], {}), ([-1, 2], {1: "b.jpg: broken"})])
def test_where_nothing_can_be_measured_there_is_no_figure(labels: list[int], skipped: dict[int, str]) -> None:
    with pytest.raises(DataError, match=r"val.txt: none of its images can be measured") as caught:
        _accuracies(Head(), part([[1, 2, 3, 4]] * 2, labels, skipped), [1])
    assert caught.value.details == [*skipped.values()]


def test_labels_that_the_head_has_not_are_named() -> None:
    with pytest.raises(DataError, match="labels up to 5, the head has 4 classes"):
        _accuracies(Head(), part([[1, 2, 3, 4]], [5]), [1])


def test_evaluate_measures_the_classifier_where_the_config_asks_for_it(trained_workspace: Path) -> None:
    words = ["evaluate", "--model", "output/latest", "-o", "Global.eval_mode=classification"]
    done = shitu(*words, "--json", cwd=trained_workspace)
    values = json.loads(done.stdout)
    assert values == json.loads((trained_workspace / "reports/classifier.json").read_text())
    listed = (trained_workspace / "lists/query_list.txt").read_text().splitlines()
    assert values["images"] == len(listed) and 0 <= values["metrics"]["top1"] <= values["metrics"]["top5"] <= 1
    assert not (trained_workspace / "reports/evaluate.json").exists()
    assert values["measured"]["features"] == sha256_of(trained_workspace / "output/latest.pdparams")
    assert "label_map.txt has changed" not in done.stderr
    names = trained_workspace / "lists/label_map.txt"
    names.write_text(names.read_text().replace("0\t", "x\t").replace("1\t", "0\t").replace("x\t", "1\t"))
    assert "mean something else to the model" in shitu(*words, cwd=trained_workspace).stderr
    other = [*words, *SMALL[:2], "-o", "Arch.Head.class_num=9"]
    refused = shitu(*other, cwd=trained_workspace, check=False)
    assert refused.returncode == 3 and "the head differ" in refused.stderr  # none that begins at random is measured
    refused = shitu(*words, "--flip", "--far", "0.1", cwd=trained_workspace, check=False)
    assert refused.returncode == 2 and "--flip, --far: only for retrieval" in refused.stderr
    refused = shitu("evaluate", "--model", "lists", *words[3:], cwd=trained_workspace, check=False)
    assert refused.returncode == 2 and "has no classifier" in refused.stderr


def test_images_that_are_left_out_are_not_counted_and_are_told(trained_workspace: Path) -> None:
    queries = trained_workspace / "lists/query_list.txt"
    lines = queries.read_text().splitlines()
    (trained_workspace / "broken.jpg").write_bytes(b"none")
    queries.write_text("\n".join([*lines[:3], f"{trained_workspace / 'broken.jpg'}\t0", ""]))
    skip = ("-o", "DataLoader.Eval.Query.dataset.on_error=skip", "-o", "Global.eval_mode=classification")
    done = shitu("evaluate", "--model", "output/latest", *skip, "--json", cwd=trained_workspace)
    values = json.loads(done.stdout)
    assert values["images"] == 3 and "broken.jpg" in values["skipped"][0]
    assert "left out as unreadable: 1 image, such as" in done.stderr


def test_evaluate_and_export_take_weights_as_their_tools_do(trained_workspace: Path) -> None:
    (trained_workspace / "output/latest.pdparams").rename(trained_workspace / "mine.pdparams")
    words = [*SMALL[:2], "-o", "Global.pretrained_model=mine.pdparams"]
    done = shitu("evaluate", *words, "--no-cache", cwd=trained_workspace)
    assert "mine, run by" in done.stdout
    for option, says in (("pretrained_model", "-o Global.pretrained_model=null"), ("checkpoints", "checkpoints=null")):
        refused = shitu("train", "-o", f"Global.{option}=no/file", cwd=trained_workspace, check=False)
        assert says in refused.stderr, refused.stderr
    done = shitu("train", "-o", "Global.checkpoints=output/RecModel/best_model", cwd=trained_workspace, check=False)
    assert "it is here: shitu train -o Global.checkpoints=" in done.stderr
