"""What a config of PaddleClas means here: its values, its rules, and what is told about the differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.parts import Part, PartKind
from shitu_cli.errors import ConfigError
from tests.config.test_peers import config


def loaded(tmp_path: Path, text: str, *overrides: str):
    path = tmp_path / "theirs.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def refused(tmp_path: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    return caught.value


def test_what_they_have_and_we_have_not_is_explained_and_can_be_left_out(tmp_path: Path) -> None:
    slim = "Slim: {prune: {name: fpgm, pruned_ratio: 0.3}}\nDataLoader_: 3"
    error = refused(tmp_path, config(more=slim).replace("use_dali: False", "use_dali: True"))
    told = "\n".join(error.details)
    assert "Slim: exists in PaddleClas, but not here: training for quantisation (pact) and pruning" in told
    assert "Global.use_dali: exists in PaddleClas, but not here: images are decoded by this program" in told
    assert "DataLoader_: unknown key" in told and len(error.details) == 3
    assert "shitu train -o Slim=null -o Global.use_dali=null, and correct the other places" in str(error.hint)
    slim = slim.splitlines()[0]
    assert loaded(tmp_path, config(more=slim), "Slim=null").Arch.backbone.name == "ResNet50_last_stage_stride1"
    loaded(tmp_path, config(more=slim), "Slim.prune=null")
    loaded(tmp_path, config(more="Slim: {quant: {name: null}}"))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"backbone": "{name: SwinTransformer_tiny_patch4_window7_224}"}, "`shitu models` lists the networks that do"),
        ({"backbone": "{name: ResNet50_metabin}"}, "MetaBIN trains in two phases"),
        ({"neck": "{name: FRFNNeck, num_features: 8}"}, "use FC with the same sizes"),
        ({"losses": "    - MultiLabelLoss: {weight: 1.0}"}, "it is for images with several labels"),
        ({"losses": "    - DistillationRKDLoss: {weight: 1.0}"}, "use one of Distillation"),
        ({"ops": "        - Cutout: {n_holes: 1}"}, "RandomErasing exist here"),
        ({"sampler": "{name: DomainShuffleBatchSampler, batch_size: 8}"}, "MetaBIN trains"),
        ({"optimizer": "{name: AdamWDL, lr: {name: Cosine, learning_rate: 1.0}}"}, "use AdamW"),
    ],
)
def test_their_classes_are_named_as_theirs(parts: dict[str, str], says: str, tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, config(**parts)).details
    assert "exists in PaddleClas, but not here: " in problem and says in problem
    assert "did you mean" not in problem


def test_what_the_stop_layer_may_say(tmp_path: Path) -> None:
    problems = refused(tmp_path, config(stop="{name: flatten, outputdim: 2048}")).details
    assert any("BackboneStopLayer.outputdim: unknown key (did you mean output_dim?)" in text for text in problems)
    loaded(tmp_path, config(stop="{name: flatten, output_dim: 2048}"))


def test_options_replace_a_part_with_what_belonged_to_it(tmp_path: Path) -> None:
    """Their schedules and networks take any argument; here those of the part that the file names go with it."""
    steps = "{name: MultiStepDecay, learning_rate: 0.01, milestones: [30], gamma: 0.5, warmup_epoch: 2, verbose: False}"
    text = config(
        optimizer=f"{{name: Momentum, momentum: 0.9, lr: {steps}}}",
        backbone="{name: PPLCNetV2_base_ShiTu, class_expand: 512, pretrained: False}",
    )
    other = ["Optimizer.lr.name=Cosine", "Arch.Backbone.name=ResNet18", "Optimizer.lr.eta_min=0.001"]
    made = loaded(tmp_path, text, *other)
    assert (made.Optimizer.lr.name, made.Optimizer.lr.warmup_epoch, made.Arch.backbone.name) == (
        "Cosine",
        2,
        "ResNet18",
    )
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, *other, "Optimizer.lr.gamma=0.1", "Arch.Backbone.class_expandd=3")
    assert len(caught.value.details) == 2 and all("unknown key" in text for text in caught.value.details)
    with pytest.raises(ConfigError) as caught:  # what belongs to neither is still a misspelling
        loaded(tmp_path, text.replace("gamma", "gama"), *other)
    assert "gama: unknown key" in caught.value.details[0]


def test_what_an_option_puts_out_of_force_is_told(tmp_path: Path) -> None:
    address = "https://example.org/ResNet50.pdparams"
    text = config(backbone=f"{{name: ResNet50, pretrained: '{address}', freeze_norm: True, use_ssld: False}}")
    told = loaded(tmp_path, text, "Arch.Backbone.name=ResNet18", "Arch.Backbone.lr_mult=0.5").notes[0]
    assert told.startswith("-o Arch.Backbone.name: theirs.yaml starts from weights of a different network")
    assert f"(Arch.Backbone.pretrained: {address}, Arch.Backbone.freeze_norm: True)" in told
    told = loaded(tmp_path, text, "Arch.Backbone.name=ResNet18", f"Arch.Backbone.pretrained={address}").notes[0]
    assert "(Arch.Backbone.freeze_norm: True)" in told  # what the user sets again is in force
    assert not any("left out (" in note for note in loaded(tmp_path, text, "Arch.Backbone.name=ResNet50").notes)


def test_a_part_that_does_not_work_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, find = config(backbone="{name: Broken}"), PartKind.find

    def broken(kind: PartKind, name: str) -> type[Part] | None:
        if name == "Broken":
            raise ConfigError("Broken: its package cannot be imported")
        return find(kind, name)

    monkeypatch.setattr(PartKind, "find", broken)
    assert "cannot be imported" in refused(tmp_path, text).details[0]
    assert loaded(tmp_path, text, "Arch.Backbone.name=ResNet18").Arch.backbone.name == "ResNet18"


@pytest.mark.parametrize("start", ["True", "https://example.org/ResNet50.pdparams", "./own.pdparams"])
def test_another_network_does_not_start_from_the_published_weights_of_the_first(start: str, tmp_path: Path) -> None:
    text = config(backbone=f"{{name: ResNet50, pretrained: '{start}'}}".replace("'True'", "True"))
    other = loaded(tmp_path, text, "Arch.Backbone.name=ResNet18").Arch.backbone.pretrained
    assert bool(other) == start.startswith("./")  # a file of the user's own may be of any network
    assert loaded(tmp_path, text, "Arch.Backbone.name=ResNet50").Arch.backbone.pretrained


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("Arch.pretrained=True", "set it for the backbone: Arch.Backbone.pretrained"),
        ("Global.use_gpu=True", "set Global.device instead: cpu or gpu"),
        ("Global.device=npu", "got npu, which exists in PaddleClas, but not here: cpu or gpu"),
        ("Arch.name=VGG16", "VGG16 exists in PaddleClas, but not here: a network alone classifies"),
    ],
)
def test_habits_of_its_options_are_answered(option: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, config(), option)
    assert len(caught.value.details) == 1 and says in caught.value.details[0]
    if option.endswith("=True"):
        loaded(tmp_path, config(), option.replace("True", "False"))


def test_their_readers_of_packed_data_are_named(tmp_path: Path) -> None:
    text = config(ops="        - Cutout: {n_holes: 1}").replace("name: ImageNetDataset", "name: MultiLabelDataset")
    reader, transform = refused(tmp_path, text).details
    assert "MultiLabelDataset: this reader exists in PaddleClas" in reader
    assert "Cutout: this transform exists in PaddleClas" in transform  # told at the same time


def test_none_is_nothing_as_in_python(tmp_path: Path) -> None:
    text = config(more="AMP: None").replace("pretrained_model: null", "pretrained_model: None")
    made = loaded(tmp_path, text, "Loss.Train.0.CELoss.epsilon=None", "EMA=None", "Global.checkpoints=None")
    assert (made.Global.pretrained_model, made.Global.checkpoints, made.AMP, made.EMA) == (None,) * 4
    assert made.Loss[0].epsilon is None


def test_a_head_without_a_class_count_has_that_of_the_whole(tmp_path: Path) -> None:
    head = "{name: CircleMargin, margin: 0.35, scale: 64, embedding_size: 512}"
    assert loaded(tmp_path, config(head=head)).Arch.head.class_num == 30671


def test_a_third_column_is_no_camera_for_imagenet_dataset(tmp_path: Path) -> None:
    from shitu_cli.data.dataset import RecDataset

    (tmp_path / "dataset").mkdir()
    lists = tmp_path / "dataset/train_reg_all_data.txt"
    lists.write_text("a.jpg 0 2\nb.jpg 1 0\n")
    train = loaded(tmp_path, config()).DataLoader.train.dataset
    assert RecDataset(train).ids is None
    cars = loaded(tmp_path, config().replace("name: ImageNetDataset", "name: VeriWild")).DataLoader.train.dataset
    np.testing.assert_array_equal(RecDataset(cars).ids, [2, 0])
    lists.with_name("label_map.txt").write_text("0\tx\n1\ty\n")  # a list that prepare wrote
    train = loaded(tmp_path, config()).DataLoader.train.dataset
    np.testing.assert_array_equal(RecDataset(train).ids, [2, 0])


def test_no_eval_mode_means_what_the_metric_is_about(tmp_path: Path) -> None:
    assert not loaded(tmp_path, config()).classifies
    text = config().replace("    - Recallk: {topk: [1, 5]}\n    - mAP: {}", "    - TopkAcc: {topk: [1, 5]}")
    assert loaded(tmp_path, text).classifies and any("classifier" in note for note in loaded(tmp_path, text).notes)
    assert not loaded(tmp_path, text, "Global.eval_mode=retrieval").classifies
    assert loaded(tmp_path, config(), "Global.eval_mode=classification").classifies


@pytest.mark.parametrize("other", ["Query", "Gallery"])
def test_one_list_of_evaluation_is_searched_in_itself(other: str, tmp_path: Path) -> None:
    """As in PaddleClas; without a second list, training would end without any evaluation."""
    loaders = loaded(tmp_path, config(), f"DataLoader.Eval.{other}=null").DataLoader
    assert loaders.query is not None and loaders.query == loaders.gallery
    assert loaded(tmp_path, config(), "DataLoader.Eval=null").DataLoader.query is None


@pytest.mark.parametrize(
    ("first", "score"),
    [
        ("mAP: {}", "mAP"),
        ("Recallk: {topk: [5, 1]}", "recall@5"),
        ("Recallk: {topk: 1}", "recall@1"),
        ("Precisionk: {topk: [1, 5]}", "precision@1"),
        ("mINP: {}", "mINP"),
    ],
)
def test_the_first_metric_chooses_the_best_weights(first: str, score: str, tmp_path: Path) -> None:
    """As in PaddleClas, whose configs of deep hashing name mAP first."""
    text = config().replace("    - Recallk: {topk: [1, 5]}\n", f"    - {first}\n    - Recallk: {{topk: [1, 5]}}\n")
    assert loaded(tmp_path, text).score == score
    assert loaded(tmp_path, text, "Global.projection=true").score == "recall@1"
    assert loaded(tmp_path, text, "Metric=null").score == "recall@1"
    assert loaded(tmp_path, text, "Global.eval_mode=classification").score == "top1"


def test_cars_are_cut_out_by_the_boxes_beside_them(tmp_path: Path) -> None:
    from shitu_cli.data.lists import read_list
    from shitu_cli.data.reader_classes import as_lists
    from shitu_cli.errors import DataError

    cars = "name: CompCars\n      label_root: ./label\n      bbox_crop: True"
    made = loaded(tmp_path, config().replace("name: ImageNetDataset", cars))
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/train_reg_all_data.txt").write_text("1/a.jpg 0\n1/b.jpg 1\n")
    (tmp_path / "label/1").mkdir(parents=True)
    (tmp_path / "label/1/a.txt").write_text("-1\n1\n10 20 110 220\n")
    with pytest.raises(DataError) as caught:
        as_lists(made, tmp_path / "lists", ["train"])
    assert "no boxes of 1 of 2 images" in caught.value.message and "train_reg_all_data.txt:2" in caught.value.details[0]
    (tmp_path / "label/1/b.txt").write_text("2\n1\n1 2 3 4\n")
    listed = as_lists(made, tmp_path / "lists", ["train"]).DataLoader.train.dataset
    images = read_list(Path(listed.cls_label_path))
    assert [images.box(n) for n in range(2)] == [(10, 20, 110, 220), (1, 2, 3, 4)] and images.ids is None
    text = config().replace("name: ImageNetDataset", "name: CompCars\n      bbox_crop: True")
    assert "label_root does not say where the boxes are" in refused(tmp_path, text).details[0]


def test_the_whole_config_that_paddlex_writes_is_read(tmp_path: Path) -> None:
    keys = ["pdx_model_name=PP-ShiTuV2_rec", "uniform_output_enabled=True", "print_mem_info=True", "use_dali=False"]
    assert loaded(tmp_path, config(), *(f"Global.{key}" for key in keys)).Global.spare_classes


@pytest.mark.parametrize(
    ("ops", "says"),
    [
        (
            "        - ToTensor:",
            "0.ToTensor: needs Normalize after it; NormalizeImage: {mean: [0, 0, 0], std: [1, 1, 1]}",
        ),
        (
            "        - Normalize: {mean: [127.5, 127.5, 127.5], std: [127.5, 127.5, 127.5], data_format: HWC}",
            "0.Normalize: needs ToTensor before it, which scales pixels to 0 to 1",
        ),
        ("        - Normalize: {data_format: HWC}\n        - ToTensor:", "0.Normalize: needs ToTensor before it"),
        ("        - ToTensor:\n        - Normalize: {to_rgb: True}", ""),
    ],
)
def test_what_scales_pixels_comes_before_what_takes_them_scaled(ops: str, says: str, tmp_path: Path) -> None:
    """There ToTensor divides by 255 and Normalize does not; here Normalize does both."""
    if not says:
        assert loaded(tmp_path, config(ops=ops))
    else:
        assert any(says in problem for problem in refused(tmp_path, config(ops=ops)).details)


def test_what_is_missing_is_said_once(tmp_path: Path) -> None:
    problems = refused(tmp_path, "Global: {epochs: 1}").details
    assert len(problems) == len(set(problems)) and sum("Arch: missing" in problem for problem in problems) == 1


def test_a_loss_is_the_mean_over_a_batch_and_adamw_has_one_decay(tmp_path: Path) -> None:
    assert loaded(tmp_path, config(losses="    - CELoss: {weight: 1.0, reduction: mean}")).Loss[0].epsilon is None
    (problem,) = refused(tmp_path, config(losses="    - CELoss: {reduction: sum}")).details
    assert "got 'sum', expected mean" in problem
    adamw = "{name: AdamW, regularizer: {name: L1, coeff: 0.01}, lr: {name: Cosine, learning_rate: 0.1}}"
    (problem,) = refused(tmp_path, config(optimizer=adamw)).details
    assert "AdamW's decay is that of squares" in problem


def test_words_may_be_written_in_capitals(tmp_path: Path) -> None:
    """PaddleClas takes the names of interpolations and backends so."""
    ops = "        - ResizeImage: {size: 224, interpolation: BILINEAR, backend: PIL}"
    (resize,) = loaded(tmp_path, config(ops=ops)).DataLoader.train.dataset.transform_ops
    assert (resize.interpolation, resize.backend) == ("bilinear", "pil")
    assert "did you mean cv2?" in refused(tmp_path, config(ops=ops.replace("PIL", "cv3"))).details[0]
