"""Arguments of functions for programs are held to what the options of the commands accept."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shitu_cli
from shitu_cli import Extractor, evaluate, export, load_config, open_index, prepare, train
from shitu_cli.config.arguments import COUNT, SHARE, require, require_flags, several
from shitu_cli.errors import DataError, UsageError
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.reporting import SilentReporter
from shitu_cli.steps.train import train_frozen
from shitu_cli.templates import read_template
from tests.index.made import vectors
from tests.preparation.test_formats import draw, write


def test_numbers_are_held_to_their_range() -> None:
    require(SHARE, share=0.5, other=None)
    require(COUNT, number=np.int64(3))
    for value in (20, -1, 0, "0.2", True, float("nan"), [0.2]):
        with pytest.raises(UsageError, match=r"^share=.*: expected a number from 0.01 to 0.9$"):
            require(SHARE, share=value)
    for value in (1.5, 4.0, np.float64(4)):
        with pytest.raises(UsageError, match=r"batch_size=.*: expected a whole number of at least 1"):
            require(COUNT, batch_size=value)


def functions_with_flags() -> list[tuple[str, str]]:
    """The functions and methods for programs that take truth values, with each of those."""
    public = {name: getattr(shitu_cli, name) for name in shitu_cli.__all__}
    methods = {
        f"{name}.{method}": function
        for name, kind in public.items()
        if inspect.isclass(kind)
        for method, function in vars(kind).items()
        if inspect.isfunction(function)
    }
    return [
        (name, parameter.name)
        for name, function in {**public, **methods}.items()
        if inspect.isfunction(function) and not name.partition(".")[2].startswith("_")
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation == "bool"
    ]


@pytest.mark.parametrize(("name", "flag"), functions_with_flags())
def test_truth_values_are_true_or_false(name: str, flag: str, exported: Path, tmp_path: Path) -> None:
    """Any text would be true, "no" as well."""
    function: Any = shitu_cli
    for part in name.split("."):
        function = getattr(function, part)
    images = [np.zeros((8, 8, 3), np.uint8)]
    first: list[Any] = [Extractor(exported, threads=1)] if "." in name else []
    first.append(np.zeros((1, 8, 8, 3), np.uint8) if name.endswith("compute") else images if first else tmp_path)
    for wrong in ("no", 1, None):
        with pytest.raises(UsageError, match=f"^{flag}={wrong!r}: expected True or False$"):
            done = function(*first, **{flag: wrong})
            list(done) if inspect.isgenerator(done) else None
    require_flags(flag=np.bool_(True))


def test_one_text_is_not_taken_apart() -> None:
    assert several("./photos") == ["./photos"] and several(Path("photos")) == ["photos"]
    assert several(["a", Path("b")]) == ["a", "b"] and several(()) == []


@pytest.mark.parametrize("wrong", [{"share": 20}, {"seed": -1}, {"depth": 0}, {"compare": -5}, {"pack_mib": 0}])
def test_prepare_changes_nothing_for_impossible_numbers(wrong: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
        prepare(tmp_path / "photos", tmp_path / "work", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "work").exists()


def test_training_keeps_earlier_models_where_their_number_is_impossible(tmp_path: Path) -> None:
    (tmp_path / "shitu.yaml").write_text(read_template("quick"))
    config = load_config(tmp_path / "shitu.yaml", "Global.epochs=7")
    assert config.Global.epochs == 7
    for wrong in ({"keep_earlier": -1}, {"keep": 0}, {"save_every_steps": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            train(config, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="views=0: expected a whole number from 1 to 64"):
        train_frozen(config, views=0)
    assert not (tmp_path / "output").exists()


def test_an_index_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    index = open_index("index")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    index.build(FeatureTable(vectors(4), list("aabb"), list("1234")), BuildOptions(), SilentReporter())
    assert (tmp_path / "index/vector.index").is_file() and not (tmp_path / "elsewhere/index").exists()


@pytest.mark.parametrize(
    ("labels", "paths", "says"),
    [
        ([1, 2], ["a", "b"], "labels must be text, got 1"),
        (["a", "b"], [Path("a.jpg"), Path("b.jpg")], r"paths must be text, got PosixPath\('a.jpg'\)"),
    ],
)
def test_an_index_takes_labels_and_paths_as_text(
    labels: list[str], paths: list[str], says: str, tmp_path: Path
) -> None:
    index = open_index(tmp_path / "index")
    with pytest.raises(DataError, match=says):
        index.build(FeatureTable(vectors(2), labels, paths), BuildOptions(), SilentReporter())
    assert not (tmp_path / "index").exists()


def test_what_a_notebook_gives_instead_of_a_config(tmp_path: Path) -> None:
    (tmp_path / "shitu.yaml").write_text(read_template("quick"))
    for step in (train, evaluate, export):
        with pytest.raises(UsageError, match=r"expected a config, got 'work/shitu.yaml'$") as error:
            step("work/shitu.yaml")  # type: ignore[operator]
        assert "load_config" in str(error.value.hint)
    with pytest.raises(UsageError, match=r"size='64x64': expected \(height, width\)"):
        export(load_config(tmp_path / "shitu.yaml"), size="64x64")  # type: ignore[arg-type]


def test_columns_may_be_a_dictionary(tmp_path: Path) -> None:
    rows = [f"{n}.jpg,{n % 2},{n % 3}" for n in range(6)]
    for n in range(6):
        draw(tmp_path / "data" / f"{n}.jpg")
    write(tmp_path / "data/items.csv", "\n".join(["file,brand,colour", *rows]))
    made = prepare(tmp_path / "data", tmp_path / "work", columns={"image": "file", "label": "colour"}, split="none")
    assert sorted(made.prepared.names) == ["0", "1", "2"]
