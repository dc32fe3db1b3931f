"""What an index answers to photos: as a search does, but without their own class."""

from __future__ import annotations

import numpy as np
import pytest

from shitu_cli.evaluation import unknown
from shitu_cli.evaluation.metrics import FeatureSet
from shitu_cli.evaluation.unknown import ask, ask_left_out
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.index.verdict import judge
from tests.evaluation.photos import photos


def test_answers_are_those_of_a_search() -> None:
    """The same labels and scores as an index of the gallery gives, image by image."""
    query, gallery = photos(6, 3, seed=1, spread=1.5), photos(6, 5, seed=2, spread=1.5)
    table = FeatureTable(gallery.features, list(map(str, gallery.labels)), [""] * len(gallery))
    answers = [judge(matches) for matches in VectorIndex.build(table, BuildOptions()).search(query.features, 5)]
    found = ask(query, gallery)
    assert np.allclose(found.scores, [answer.score for answer in answers], atol=1e-6)
    expected = [answer.nearest == str(label) for answer, label in zip(answers, query.labels, strict=True)]
    assert found.right.tolist() == expected and 0 < sum(expected) < len(expected)


def test_a_photo_is_no_answer_to_itself_and_neither_is_its_class_when_it_is_left_out() -> None:
    images = photos(9, 4)
    assert ask(images, images).scores.max() < 1
    left_out = ask_left_out(images, images, range(9))
    assert not left_out.right.any()
    products = images.features.astype(np.float64) @ images.features.T
    products[images.labels[:, None] == images.labels[None]] = -2
    assert left_out.scores.max() == pytest.approx(products.max(), abs=1e-6)


def test_images_of_one_camera_are_no_answer_to_each_other() -> None:
    """Nor is one without a label, whose score counts for nothing."""
    features = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    query = FeatureSet(features[:1], np.array([3]), np.array([7]), np.array([0]))
    gallery = FeatureSet(features[1:], np.array([3, 4, -1]), np.array([7, 7, 7]), np.array([1, 2, 3]))
    answer = ask(query, gallery)
    assert not answer.right[0] and answer.scores[0] == 0
    nobody = ask(query, FeatureSet(features[3:], np.array([-1]), np.array([7]), np.array([3])))
    assert nobody.scores[0] < -1 and not nobody.right[0]


def test_photos_that_are_in_both_lists_are_asked_once() -> None:
    images = photos(9, 4)
    assert len(ask_left_out(images, images, range(9))) == 36
    gallery = photos(9, 2, seed=3)
    assert len(ask_left_out(images, gallery, range(9))) == 54
    assert len(ask_left_out(images, gallery, [2, 5])) == 12


def test_of_very_many_photos_the_same_are_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "MOST_PHOTOS", 12)
    images = photos(9, 4)
    first, second = (ask_left_out(images, images, range(9)) for _ in range(2))
    assert len(first) == 12 and np.array_equal(first.scores, second.scores)
