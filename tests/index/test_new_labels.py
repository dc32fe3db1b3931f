"""Labels that are new to an index, beside those that may be meant."""

from __future__ import annotations

import pytest

from shitu_cli.index.files import FileStore, save_index
from shitu_cli.index.new_labels import new_labels
from shitu_cli.index.store import FeatureTable
from shitu_cli.index.vectors import VectorIndex
from tests.index.made import vectors

OLD = ["audi/a4", "fruit/apple", "Kiwi gold", "pear"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FileStore:
    folder = tmp_path_factory.mktemp("index") / "i"
    save_index(VectorIndex.build(FeatureTable(vectors(4), OLD, list("1234"))), folder)
    return FileStore(folder)


@pytest.mark.parametrize(
    ("label", "near"),
    [
        ("kiwi_GOLD", "Kiwi gold"),
        ("apple", "fruit/apple"),
        ("shop/Fruit/apple", "fruit/apple"),
        ("fresh/pear", "pear"),
        ("lego/a4", ""),  # a model of the same name, of another brand
        ("red/apple", ""),
        ("plum", ""),
    ],
)
def test_a_new_label_is_set_beside_the_one_that_may_be_meant(store: FileStore, label: str, near: str) -> None:
    assert new_labels(store, [label, "pear", ""]) == {label: near}
