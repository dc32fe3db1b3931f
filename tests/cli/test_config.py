"""`shitu config`, and what `prepare` does to a config that is there already."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.command import shitu
from tests.conftest import MakeImages


@pytest.fixture
def space(tmp_path: Path, make_images: MakeImages) -> Path:
    make_images(tmp_path / "data", classes=6, per_class=6)
    shitu("prepare", "data", "--split", "closed", cwd=tmp_path)
    return tmp_path


def during_training(space: Path) -> object:
    return yaml.safe_load((space / "shitu.yaml").read_text())["Global"]["eval_during_train"]


@pytest.mark.parametrize(
    ("pattern", "guess"), [("learning_rat", "learning_rate"), ("batchsize", "batch_size"), ("nothing", None)]
)
def test_a_pattern_without_a_key_says_so(space: Path, pattern: str, guess: str | None) -> None:
    done = shitu("config", pattern, "--json", cwd=space, check=False)
    if guess == "learning_rate":  # a part of the key is enough
        assert done.returncode == 0 and guess in done.stdout
        return
    assert done.returncode == 2 and done.stdout == ""
    assert f"no key of the config contains '{pattern}'" in done.stderr
    assert "shitu config" in done.stderr and (guess is None or f".{guess}" in done.stderr)


def test_online_evaluation_returns_with_its_lists(space: Path) -> None:
    assert during_training(space) is True
    shitu("prepare", "data", "--split", "none", cwd=space)
    assert during_training(space) is False
    shitu("prepare", "data", "--split", "closed", cwd=space)
    assert during_training(space) is True


def test_online_evaluation_that_a_user_turned_off_stays_off(space: Path) -> None:
    path = space / "shitu.yaml"
    path.write_text(path.read_text().replace("eval_during_train: True", "eval_during_train: False"))
    assert during_training(space) is False
    shitu("prepare", "data", "--split", "closed", "--share", "0.4", cwd=space)
    assert during_training(space) is False


def test_query_and_gallery_as_one_alias_are_refused_before_anything_is_written(space: Path) -> None:
    path = space / "shitu.yaml"
    values = yaml.safe_load(path.read_text())
    evaluation = values["DataLoader"]["Eval"]
    evaluation["Gallery"] = evaluation["Query"]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    assert "&id" in path.read_text() and "*id" in path.read_text()
    before = {p: p.read_bytes() for p in [path, *(space / "lists").iterdir()]}
    done = shitu("prepare", "data", "--split", "closed", "--seed", "9", cwd=space, check=False)
    assert done.returncode == 4
    assert "YAML alias" in done.stderr and "write the block out in both places" in done.stderr
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    "words", [("-o", "Global.epochz=3"), ("-c", "bad.yaml"), ("-c", "bad.yaml", "-o", "Global.epochz=3")]
)
def test_the_hint_for_a_config_with_problems_leads_to_a_command_that_works(space: Path, words: tuple[str, ...]) -> None:
    (space / "bad.yaml").write_text((space / "shitu.yaml").read_text().replace("epochs:", "epoch:", 1))
    for command in ("config", "train"):
        done = shitu(command, *words, cwd=space, check=False)
        assert done.returncode == 4
        hint = done.stderr.splitlines()[-1]
        proposed = re.search(r"shitu (.*?) shows", hint)
        assert proposed is not None, hint
        assert shitu(*shlex.split(proposed[1]), cwd=space).stdout
