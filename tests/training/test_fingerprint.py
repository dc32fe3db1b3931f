"""What makes a resume wrong: a network with other options; not an option that came later and is at its default."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from shitu_cli.config.dump import config_values
from shitu_cli.config.load import load_config
from shitu_cli.training.fingerprint import compare_runs, flatten, keys_at_default

LATER = ("Arch.Backbone.freeze_at", "Arch.Backbone.freeze_norm", "Arch.Head.start", "Global.projection")


def test_a_checkpoint_of_before_an_option_existed_goes_on_unless_the_option_is_used(trained: Path) -> None:
    now = json.loads((trained / "output/latest.pdstates").read_text())["run"]
    saved = copy.deepcopy(now)
    for key in LATER:
        del saved["config"][key]
    defaults = keys_at_default(load_config(trained / "shitu.yaml"))
    assert not compare_runs(saved, saved, mid_epoch=False).refused
    assert len(compare_runs(saved, now, mid_epoch=False).refused) == 3
    same = compare_runs(saved, now, mid_epoch=False, defaults=defaults)
    assert not same.refused and not same.listed
    now["config"]["Arch.Backbone.freeze_at"] = 2
    other = compare_runs(saved, now, mid_epoch=False, defaults=defaults - {"arch.backbone.freeze_at"})
    assert other.refused == ["Arch.Backbone.freeze_at: None then, 2 now"] and not other.listed


def test_losses_get_options_later_too(trained: Path) -> None:
    now = load_config(trained / "shitu.yaml", flags={"Loss.Train.+TeacherLoss.teacher": "pp-shitu-v2"})
    config = flatten(config_values(now))
    before = {key: value for key, value in config.items() if key != "Loss.Train.1.TeacherLoss.views"}
    assert len(before) == len(config) - 1
    compared = compare_runs({"config": before}, {"config": config}, mid_epoch=False, defaults=keys_at_default(now))
    assert not compared.refused and not compared.listed


def test_other_images_without_labels_are_told() -> None:
    changed = compare_runs({"unlabelled": "a"}, {"unlabelled": "b"}, mid_epoch=True)
    assert changed.listed == ["the images without labels changed"] and not changed.refused
