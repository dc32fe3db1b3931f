"""Several optimisers in one config, and what each of them trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_paddleclas import loaded, refused
from tests.config.test_peers import config

RATE = "lr: {name: Constant, learning_rate: 0.1}"
CENTER = "    - CELoss: {weight: 1.0}\n    - CenterLoss: {num_classes: 9, feat_dim: 512}"


def listed(*scopes: str) -> str:
    """A list of optimisers with these scopes."""
    return "".join(f"\n  - SGD: {{scope: {scope}, {RATE}}}" for scope in scopes)


def about_optimizers(tmp_path: Path, text: str) -> list[str]:
    return [note for note in loaded(tmp_path, text).notes if note.startswith("Optimizer: ")]


def test_scopes_of_optimisers_may_be_patterns_of_layers(tmp_path: Path) -> None:
    momentum = "lr: {name: Constant, learning_rate: 1.0}"
    optimizer = f"\n  - Momentum: {{scope: backbone.*(conv|bn), {momentum}}}\n  - SGD: {{scope: RecModel, {momentum}}}"
    parts = loaded(tmp_path, config(optimizer=optimizer))
    assert parts.Optimizer.name == "SGD" and [item.scope for item in parts.loss_optimizers] == ["backbone.*(conv|bn)"]
    problems = refused(tmp_path, config(optimizer=f"\n  - SGD: {{scope: '(', {momentum}}}")).details
    assert "which is not a pattern" in problems[0]
    problems = refused(tmp_path, config(optimizer=f"\n  - SGD: {{scope: CenterLoss, {momentum}}}")).details
    assert "expected one of CELoss, RecModel, or a pattern" in problems[0]


@pytest.mark.parametrize("scope", ["RecModel", "all", "DistillationModel"])
def test_what_means_the_network_is_no_pattern_of_layers(scope: str, tmp_path: Path) -> None:
    made = loaded(tmp_path, config(optimizer=listed("head", scope)))
    assert made.Optimizer.scope is None and [part.scope for part in made.loss_optimizers] == ["head"]


def test_scopes_that_do_not_work_are_said(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, config(optimizer=listed("RecModel", "all"))).details
    assert "two optimisers have the same scope (RecModel, DistillationModel, all mean one)" in problem
    (problem,) = refused(tmp_path, config(optimizer=listed("[head, neck]", "RecModel"))).details
    assert "scope: got ['head', 'neck'], expected one of CELoss, RecModel, or a pattern of layers" in problem


def test_what_two_optimisers_would_train_there_is_told(tmp_path: Path) -> None:
    """PaddleClas gives the whole network to one and the part to the other."""
    (note,) = about_optimizers(tmp_path, config(optimizer=listed("RecModel", "head", "neck")))
    assert "of the scope head and neck are trained by that optimiser alone; in PaddleClas the optimiser" in note
    (note,) = about_optimizers(tmp_path, config(losses=CENTER, optimizer=listed("all", "CenterLoss")))
    assert "the scope CenterLoss are trained by that" in note and "the scope all changes them too" in note
    for alone in (listed("head", ".*"), "{name: SGD, lr: {name: Constant, learning_rate: 0.1}}"):
        assert about_optimizers(tmp_path, config(losses=CENTER, optimizer=alone)) == []


def test_what_a_loss_learns_is_trained_without_an_entry_too(tmp_path: Path) -> None:
    (note,) = about_optimizers(tmp_path, config(losses=CENTER, optimizer=listed("RecModel")))
    assert "the scope RecModel includes what CenterLoss learns; in PaddleClas that is not trained" in note
    for scopes in (("RecModel", "CenterLoss"), ("all",)):
        assert about_optimizers(tmp_path, config(losses=CENTER, optimizer=listed(*scopes))) == []


def test_a_rate_alone_is_constant(tmp_path: Path) -> None:
    rate = "lr: {learning_rate: 0.01}"
    for optimizer in (f"{{name: SGD, {rate}}}", f"\n  - SGD: {{scope: RecModel, {rate}}}"):
        lr = loaded(tmp_path, config(optimizer=optimizer)).Optimizer.lr
        assert (lr.name, lr.first, lr.warmup_epoch) == ("Constant", 0.01, 0)
    (problem,) = refused(tmp_path, config(optimizer="{name: SGD, lr: {learning_rate: 0.1, warmup_epoch: 3}}")).details
    assert "Optimizer.lr: name: missing" in problem
