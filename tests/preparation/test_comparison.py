"""Wrong labels are found by features: those put in come first, and their true class is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu_cli.preparation.audit import Look
from shitu_cli.preparation.comparison import NOT_COMPARED, Comparison, by_colours, by_features, sample
from shitu_cli.preparation.formats.base import Rows

CLASSES, EACH, SIZE = 12, 10, 64


def drawn(seed: int) -> tuple[list[str], np.ndarray]:
    """Labels and features of images of some classes, each around a centre of its own."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, SIZE))
    labels = [f"class {n // EACH}" for n in range(CLASSES * EACH)]
    features = np.repeat(centres, EACH, axis=0) + 0.8 * rng.normal(size=(len(labels), SIZE))
    return labels, features.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_come_first_and_their_class_is_named(seed: int) -> None:
    labels, features = drawn(seed)
    true = dict.fromkeys((3, 37, 58, 91), "")
    for number in true:
        true[number] = labels[number]
        labels[number] = labels[(number + 5 * EACH) % len(labels)]
    comparison = by_features(labels, range(len(labels)), features, "features")
    assert {number: comparison.likelier[number] for number in comparison.suspects()[:4]} == true
    assert set(np.argsort(-comparison.scores)[:4].tolist()) == true.keys()


def test_right_labels_are_no_suspects() -> None:
    labels, features = drawn(0)
    comparison = by_features(labels, range(len(labels)), features, "features of x")
    assert comparison.likelier == {} and comparison.scores.max() < 0
    said = "labels: 120 images compared by features of x; none of them looks more like another class"
    assert comparison.describe(120) == said


def test_an_image_that_is_like_no_class_comes_before_those_that_are_like_theirs() -> None:
    labels, features = drawn(1)
    features[44] = 3 * np.random.default_rng(9).normal(size=SIZE)
    assert by_features(labels, range(len(labels)), features, "").scores.argmax() == 44


def test_images_that_are_not_compared_come_last() -> None:
    labels, features = drawn(2)
    numbers = sample(labels, 60)
    comparison = by_features(labels, numbers, features[numbers], "")
    others = np.delete(comparison.scores, numbers)
    assert comparison.compared == len(numbers) <= 60 and set(others.tolist()) == {NOT_COMPARED}
    assert by_features(["a"] * 3, [0, 1, 2], features[:3], "").compared == 0  # one class: nothing to compare


@pytest.mark.parametrize(("classes", "each", "most"), [(4, 5, 100), (3, 500, 300), (5000, 30, 3000), (9, 2, 100)])
def test_a_sample_holds_whole_classes(classes: int, each: int, most: int) -> None:
    labels = [str(n % classes) for n in range(classes * each)] + ["-1"] * 50
    numbers = sample(labels, most)
    counts = np.unique([labels[n] for n in numbers], return_counts=True)[1] if numbers else np.array([])
    assert "-1" not in [labels[n] for n in numbers] and len(numbers) <= most
    assert len(numbers) >= min(most, classes * each) // 2 if each > 2 else not numbers
    assert all(count >= min(each, 20) for count in counts)


def test_suspects_are_in_the_json() -> None:
    rows = Rows(Path())
    for n in range(3):
        rows.add(f"{n}.jpg", "a", box=(1, 2, 3, 4) if n == 1 else None)
    rows.display = {"a": "Apple", "b": "Banana"}
    values = Comparison(np.array([0.1, 0.7, 0.9]), "x", 3, {1: "b", 2: "b"}).to_json(rows)
    assert [suspect["path"] for suspect in values["suspects"]] == ["2.jpg", "1.jpg"]
    assert values["suspects"][1] == {
        "path": "1.jpg", "box": (1, 2, 3, 4), "label": "Apple", "looks_like": "Banana", "unlike": 0.7
    }  # fmt: skip


def test_an_image_of_other_colours_is_unlike_its_class() -> None:
    rng = np.random.default_rng(0)
    colours = [rng.integers(90, 110, 48).astype(np.uint8) for _ in range(7)] + [np.full(48, 220, np.uint8)]
    scores = by_colours(["a"] * 8, [Look(40, 40, colours=c.tobytes()) for c in colours]).scores
    assert scores.argmax() == 7 and scores[7] > 3 * scores[:7].max()
    assert by_colours(["a"] * 2, [Look(40, 40), Look(40, 40)]).scores.tolist() == [0, 0]
