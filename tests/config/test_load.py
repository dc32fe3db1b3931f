from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from shitu_cli.config.dump import dump_config
from shitu_cli.config.load import load_config, parse_arch
from shitu_cli.errors import ConfigError
from shitu_cli.templates import list_templates, read_template

TEMPLATES = [template.name for template in list_templates()]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shitu.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_load_and_survive_a_dump(name: str, tmp_path: Path) -> None:
    config = load_config(write(tmp_path, read_template(name)))
    again = load_config(write(tmp_path, dump_config(config)))
    assert dataclasses.replace(config, origins={}) == dataclasses.replace(again, origins={})


def test_overrides_and_flags(tmp_path: Path) -> None:
    path = write(tmp_path, read_template("general_v2"))
    config = load_config(
        path,
        [
            "Global.epochs=3",
            "eval_during_train=False",
            "Loss.Train.CELoss.epsilon=0.2",
            "Optimizer.lr.learning_rate=1e-3",
        ],
        flags={"Global.epochs": 7},
    )
    assert config.Global.epochs == 7
    assert config.Global.eval_during_train is False
    assert config.Loss[0].epsilon == 0.2
    assert config.Optimizer.lr.learning_rate == 0.001
    assert config.origins["Global.epochs"] == "--epochs"
    assert config.origins["Optimizer.lr.learning_rate"] == "-o Optimizer.lr.learning_rate"
    line = read_template("general_v2").splitlines().index("Arch:") + 1
    assert config.origins["Arch"] == f"{path}:{line}"


def test_of_few_keys_or_names_all_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, read_template("general_v2")), ["Arch.Neck.colour=3", "Arch.Head.name=Z"])
    details = "\n".join(caught.value.details)
    assert "-o Arch.Neck.colour: unknown key (known here: " in details and "num_features" in details
    assert "expected one of the 6 heads that exist here (known here: FC, ArcMargin, " in details


def test_all_problems_at_once_with_their_lines(tmp_path: Path) -> None:
    text = read_template("general_v2")
    text = text.replace("  epochs: 100", "  epoch: 100").replace("save_interval: 1", "save_interval: often")
    text = text.replace("name: BNNeck", "name: BNNek").replace(
        "- CELoss:\n        weight: 1.0\n        epsilon", "- CELoss:\n        weight: 1.0\n        epsilom"
    )
    text = text.replace("- RandomRotation", "- RandAugmentV2").replace("class_num: 1000", "class_num: 0")
    lines = text.splitlines()
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), ["Global.devise=cpu"])
    details = caught.value.details
    expected = {
        "epoch: 100": "Global.epoch: unknown key (did you mean epochs?)",
        "save_interval: often": "Global.save_interval: got 'often', expected a whole number",
        "name: BNNek": "Arch.Neck: got 'BNNek', expected one of the 7 necks that exist here (did you mean BNNeck?)",
        "epsilom: 0.1": "Loss.Train.0.CELoss.epsilom: unknown key (did you mean epsilon?)",
        "- RandAugmentV2:": "RandAugmentV2: this transform exists in PaddleClas, but not here: TimmAutoAugment, Rand",
        "class_num: 0": "Arch.Head.class_num: got 0, expected a whole number of at least 1",
    }
    for start, message in expected.items():
        number = next(n for n, line in enumerate(lines, 1) if line.strip().startswith(start))
        if start == "name: BNNek":
            number -= 1  # the block's own line
        assert any(
            detail.startswith(f"{tmp_path / 'shitu.yaml'}:{number}: ") and message in detail for detail in details
        ), (
            message,
            details,
        )
    assert "-o Global.devise: unknown key (did you mean device?)" in details
    assert len(details) == len(expected) + 1
    assert caught.value.message.endswith("7 problems in the config")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Global: [1, 2\n", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping with the blocks"),
        ("", "expected a mapping with the blocks"),
    ],
)
def test_files_beyond_use(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_key_twice(tmp_path: Path) -> None:
    text = read_template("general_v2").replace("  epochs: 100", "  epochs: 100\n  epochs: 5")
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert "Global.epochs: this key appears a second time" in caught.value.details[0]


def test_arch_of_a_plain_mapping() -> None:
    arch = parse_arch({"Backbone": {"name": "PPLCNet_x0_5"}, "BackboneStopLayer": {"name": "flatten"}})
    assert (arch.backbone.name, arch.stop_layer, arch.neck) == ("PPLCNet_x0_5", "flatten", None)
    with pytest.raises(ConfigError) as caught:
        parse_arch({"Backbone": {"name": "PPLCNet_x05"}, "Nek": {}})
    assert len([caught.value.message, *caught.value.details]) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Arch.infer_add_softmax=True", "got True, expected false: features are exported, not class probabilities"),
        ("Arch.infer_output_key=logits", "got 'logits', expected features: only features are exported"),
        ("Metric.Eval.0.Recallk.descending=False", "got False, expected true: similarities are cosines"),
        ("DataLoader.Eval.Query.dataset.relabel=True", "query and gallery would not match"),
        ("DataLoader.Train.sampler.total_epochs=5", "unknown key"),
        ("Global.feature_binarize=round", "use sign, or set Global.feature_normalize to false"),
    ],
)
def test_settings_that_could_not_do_what_they_say_are_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, read_template("general_v2")), [override])
    key = override.partition("=")[0]
    assert len(caught.value.details) == 1
    assert f"-o {key}" in caught.value.details[0] and message in caught.value.details[0]


def test_the_same_settings_at_the_values_that_they_have_here(tmp_path: Path) -> None:
    overrides = ["Arch.infer_output_key=null", "Metric.Eval.0.Recallk.descending=True"]
    overrides += ["DataLoader.Train.dataset.relabel=True"]
    overrides += ["Global.feature_binarize=round", "Global.feature_normalize=False"]
    load_config(write(tmp_path, read_template("general_v2")), overrides)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("Optimizer.momentum=9", "got 9, expected a number of at least 0 and below 1"),
        ("Optimizer.momentum=high", "got 'high', expected a number"),
        ("Optimizer.lr.learning_rate=-0.1", "got -0.1, expected a number of at least 0"),
        ("Optimizer.lr.learning_rate=.nan", "got nan, expected a number of at least 0"),
        ("Optimizer.regularizer.coeff=-1", "expected a number from 0 to 1"),
        ("Optimizer.clip_norm=-1", "expected a number above 0"),
        ("Optimizer.clip_global_norm=0", "expected a number above 0"),
        ("Global.epochs=0", "expected a whole number of at least 1"),
        ("Global.seed=-1", "expected a whole number of at least 0"),
        ("EMA.decay=1", "expected a number of at least 0 and below 1"),
        ("AMP.scale_loss=0", "expected a number above 0"),
        ("Loss.Train.CELoss.weight=-1", "expected a number of at least 0"),
        ("Loss.Train.CELoss.epsilon=1", "expected a number of at least 0 and below 1"),
        ("Arch.Head.class_num=2.5", "got 2.5, expected a whole number of at least 1"),
        ("DataLoader.Train.sampler.batch_size=0", "expected a whole number of at least 1"),
        ("DataLoader.Train.loader.num_workers=-1", "expected a whole number of at least 0"),
        ("DataLoader.Train.dataset.transform_ops.RandCropImage.scale=[0.3, 1.5]", "two numbers above 0 and at most 1"),
        ("DataLoader.Train.dataset.transform_ops.RandCropImage.scale=[0.5, 0.3]", "the smaller first"),
        ("DataLoader.Train.dataset.transform_ops.RandomRotation.prob=1.5", "expected a number from 0 to 1"),
        ("Metric.Eval.Recallk.topk=[1, 0]", "expected a whole number of at least 1, or a list of such"),
    ],
)
def test_numbers_outside_their_range(tmp_path: Path, override: str, says: str) -> None:
    path = write(tmp_path, read_template("quick"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    key = override.partition("=")[0]
    assert len(caught.value.details) == 1
    assert caught.value.details[0].startswith(f"-o {key}: got ") and says in caught.value.details[0]


def test_another_network_does_not_take_over_how_the_first_one_starts(tmp_path: Path) -> None:
    path = write(tmp_path, read_template("tuned"))
    start = load_config(path).Arch.backbone
    assert (start.pretrained, start.freeze_norm) == (True, True) and start.freeze_at and start.lr_mult < 1
    other = load_config(path, ["Arch.Backbone.name=PPLCNet_x0_25"]).Arch.backbone
    assert (other.pretrained, other.freeze_norm, other.freeze_at, other.lr_mult) == (False, False, 0, 1.0)
    named = ["Arch.Backbone.freeze_at=2", "Arch.Backbone.name=PPLCNet_x0_25", "Arch.Backbone.pretrained=True"]
    other = load_config(path, named).Arch.backbone
    assert (other.pretrained, other.freeze_norm, other.freeze_at) == (True, False, 2)
    same = load_config(path, ["Arch.Backbone.name=tf_efficientnet_lite0"]).Arch.backbone
    assert same == start


def test_an_override_of_a_block_takes_the_blame_for_what_is_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, read_template("quick"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["Optimizer.lr={name: Cosine, learning_rate: -1}"])
    assert caught.value.details == [
        "-o Optimizer.lr: Optimizer.lr.learning_rate: got -1, expected a number of at least 0"
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epochs: !!int ''", ":12: Global.epochs: '' is not a value of type int"),
        ("epochs: !!bool maybe", ":12: Global.epochs: 'maybe' is not a value of type bool"),
        ("pretrained_model: 2001-99-99", None),  # a name, not a date
        ("epochs: 1:30", ":12: Global.epochs: got '1:30', expected a whole number of at least 1"),
        ("<<: {epochs: 3}", ":12: Global.<<: << is not supported: write the keys out"),
        ("[a]: 3", ":12: Global: a key must be plain text"),
    ],
)
def test_values_that_yaml_cannot_build(line: str, says: str | None, tmp_path: Path) -> None:
    text = read_template("general_v2").replace("  pretrained_model: null", "  #")
    path = write(tmp_path, text.replace("  epochs: 100", f"  {line}"))
    if says is None:
        assert str(load_config(path).Global.pretrained_model).endswith("2001-99-99")
        return
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.details == [f"{path}{says}"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("Global.epochs=!!float ''", "-o Global.epochs: '' is not a value of type float"),
        ("Global.image_shape.²=3", "-o Global.image_shape.²: there is nothing at Global.image_shape.²"),
        ("Global.image_shape.99999999999999999999=3", "there is nothing at"),
        ("Global.seed=[&a [*a]]", "contains itself"),
        ("Global.seed={a: 1, a: 2}", "this key appears a second time"),
        ("x" + ".y" * 500 + "=1", "more than 64 levels of keys"),
        (
            "Global.seed=" + "[" * 5000,
            "nest",
        ),  # libyaml has a limit of its own, and its versions meet it at different places
    ],
)
def test_options_that_yaml_cannot_build(override: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, read_template("general_v2")), [override])
    assert any(says in detail for detail in caught.value.details), caught.value.details


def test_aliases_of_aliases_are_refused(tmp_path: Path) -> None:
    text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    text += "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in itertools.pairwise("abcdefghij"))
    with pytest.raises(ConfigError, match=r"shitu\.yaml:5: its aliases stand for more than"):
        load_config(write(tmp_path, text))


def test_a_huge_file_or_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too large"):
        load_config(write(tmp_path, "#" * 300_000))
    with pytest.raises(ConfigError, match="it is a folder"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("Loss.Train.TripletAngularMarginLoss.add_absolute=fasle", "got 'fasle', expected true or false"),
        ("Optimizer.use_nesterov=fasle", "got 'fasle', expected true or false"),
        ("DataLoader.Train.dataset.transform_ops.RandFlipImage.flip_code=7", "got 7, expected one of 1, 0, -1"),
        ("DataLoader.Train.sampler.sample_method=foo", "expected one of sample_avg_prob, id_avg_prob"),
        (
            "DataLoader.Train.dataset.transform_ops.0={RandCropImage: {size: 8, interpolation: random}}",
            "random exists in PaddleClas, but not here: choose bilinear or bicubic",
        ),
        (
            "Arch.Neck.weight_attr={initializer: {name: Normal, std: -1}}",
            "weight_attr.initializer.std: got -1, expected",
        ),
        (
            "Arch.Neck.weight_attr={lerning_rate: 1}",
            "weight_attr.lerning_rate: unknown key (did you mean learning_rate?)",
        ),
        ("Optimizer.regularizer={name: L3, coeff: 0.1}", "regularizer.name: got 'L3', expected one of L1, L2"),
        ("Arch.Head.class_num=true", "got True, expected a whole number of at least 1"),
        ("Arch.Backbone.depths=[1, 2]", "expected a list of 4 whole numbers of at least 1"),
    ],
)
def test_arguments_of_other_types_are_refused(override: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, read_template("general_v2")), [override])
    assert len(caught.value.details) == 1 and says in caught.value.details[0], caught.value.details
