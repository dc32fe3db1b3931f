"""Splits: repeatable, honest, and duplicates stay together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.preparation import split as splitting
from shitu_cli.preparation.split import choose_kind, split_images
from tests.mutations import cases


def data(classes: int, per_class: int) -> tuple[list[str], list[str]]:
    labels = [f"c{k:03d}" for k in range(classes) for _ in range(per_class)]
    return labels, [f"{label}/{n}.jpg" for n, label in enumerate(labels)]


def test_open_keeps_whole_classes_from_training() -> None:
    labels, paths = data(40, 5)
    split = split_images(labels, paths, kind="open", share=0.25)
    trained, asked = {labels[n] for n in split.train}, {labels[n] for n in split.query}
    assert not trained & asked and len(asked) == 10
    assert split.query == split.gallery
    assert sorted(split.train + split.query) == list(range(200))


class Counted(dict[str, list[int]]):
    """The images of each class, and how often they were asked for."""

    asked = 0

    def __getitem__(self, label: str) -> list[int]:
        self.asked += 1
        return super().__getitem__(label)


def test_classes_that_share_images_are_looked_at_once() -> None:
    """A million hard links of a hundred images join all classes to a few families: each is decided once."""
    labels, paths = data(400, 2)
    alike = [[2 * n for n in range(first, first + 100)] for first in range(0, 400, 100)]
    images = splitting._Data(labels, paths, alike, [])
    images.by_label = Counted(images.by_label)
    train, query, gallery = splitting._open_split(images, 0.3, 0)
    held = {labels[n] for n in query}
    assert held == {f"c{k:03d}" for k in range(int(min(held)[1:]), int(min(held)[1:]) + 100)}, "a family as a whole"
    assert len(train) == 600 and gallery == query
    assert images.by_label.asked <= 2 * 400


def test_closed_keeps_pictures_of_every_class() -> None:
    labels, paths = data(6, 10)
    split = split_images(labels, paths, kind="closed", share=0.2)
    assert {labels[n] for n in split.query} == set(labels)
    assert split.gallery == split.train and len(split.query) == 12


def test_adding_classes_hardly_moves_the_others() -> None:
    labels, paths = data(100, 3)
    before = split_images(labels, paths, kind="open")
    more, more_paths = data(105, 3)
    after = split_images(more, more_paths, kind="open")
    moved = {labels[n] for n in before.query} ^ {more[n] for n in after.query if more[n] in set(labels)}
    assert len(moved) <= 5


def test_another_seed_keeps_others() -> None:
    labels, paths = data(40, 3)
    chosen = {tuple(split_images(labels, paths, kind="open", seed=seed).query) for seed in range(5)}
    assert len(chosen) == 5


def test_known_choice_is_the_same_on_every_machine() -> None:
    labels, paths = data(10, 2)
    split = split_images(labels, paths, kind="open", seed=0)
    assert sorted({labels[n] for n in split.query}) == ["c001", "c003"]


@cases(60)
@given(
    counts=st.lists(st.integers(1, 6), min_size=4, max_size=12),
    kind=st.sampled_from(["open", "closed", "none"]),
    groups=st.lists(st.lists(st.integers(0, 20), min_size=2, max_size=4, unique=True), max_size=4),
)
def test_nothing_is_lost_and_duplicates_stay_together(counts: list[int], kind: str, groups: list[list[int]]) -> None:
    labels = [f"c{k}" for k, count in enumerate(counts) for _ in range(count)]
    paths = [str(n) for n in range(len(labels))]
    alike = [[n for n in group if n < len(labels)] for group in groups]
    alike = [group for group in alike if len(group) > 1]
    split = split_images(labels, paths, kind=kind, alike=alike)
    assert sorted(split.train + split.query) == list(range(len(labels)))
    trained = set(split.train)
    for group in alike:
        if kind == "open" or len({labels[n] for n in group}) == 1:
            assert len({n in trained for n in group}) == 1
    assert {labels[n] for n in split.train} or not labels
    if kind == "closed":
        assert {labels[n] for n in split.query} <= {labels[n] for n in split.train}


def test_few_classes_are_all_trained() -> None:
    assert choose_kind(5)[0] == "closed" and choose_kind(50)[0] == "open"
