"""PaddleClas's own configs really train: two steps of each on images that fit, and some of them to the export."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

from shitu_cli.config.load import load_config  # noqa: E402
from shitu_cli.config.parts.backbones import VGG, CLIPViT  # noqa: E402
from shitu_cli.model.backbones import alexnet, vgg  # noqa: E402
from shitu_cli.processes.collectives import Ranks  # noqa: E402
from shitu_cli.reporting import SilentReporter  # noqa: E402
from shitu_cli.steps.settings import with_lists  # noqa: E402
from shitu_cli.training import trainer  # noqa: E402
from shitu_cli.training.build import build_training  # noqa: E402
from shitu_cli.training.log import RunLog  # noqa: E402
from shitu_cli.training.trainer import Trainer  # noqa: E402
from tests.command import shitu  # noqa: E402
from tests.config.recipes import OPTIONS, RECIPES, REFUSED, write  # noqa: E402

CLASSES, PER_CLASS = 4, 4
ADAFACE, LOGO = "metric_learning/adaface_ir18", "Logo/ResNet50_ReID"
# Their first linear layers, or their positions, are made for images of 224 pixels.
FIXED = ("AlexNet", "VGG19Sigmoid", "CLIP_vit_base_patch16_224", "CLIP_vit_large_patch14_224")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., Any]) -> Path:
    """Images in every form that the configs read: lists, logos, the boxes of CompCars, persons in their folders."""
    root = tmp_path_factory.mktemp("theirs")
    files = make_images(root / "dataset", classes=CLASSES, per_class=PER_CLASS)
    lines, logos = [], ["image_id\tlabel\tname\tpath"]
    for label, paths in enumerate(files.values()):
        for number, path in enumerate(paths):
            inside = path.relative_to(root / "dataset")
            lines.append(f"{inside} {label}")
            logos.append(f"{len(logos)}\t{label + 1}\tlogo {label}\t{inside}")
            box = root / "dataset/label" / inside.with_suffix(".txt")
            box.parent.mkdir(parents=True, exist_ok=True)
            box.write_text("1\n1\n2 2 30 30\n")
            for part in ("bounding_box_train", "query", "bounding_box_test"):
                person = root / f"dataset/{part}/{label + 2:04d}_c{number % 2 + 1}s1_{number:06d}_00.jpg"
                person.parent.mkdir(exist_ok=True)
                person.symlink_to(path)
    (root / "list.txt").write_text("\n".join(lines) + "\n")
    (root / "logos.txt").write_text("\n".join(logos) + "\n")
    return root


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer blocks and values for networks of 140 to 300 million weights, whose configs have no option for it."""
    for module in (alexnet, vgg):
        monkeypatch.setattr(module, "HIDDEN", 64)
    monkeypatch.setitem(VGG.variants, "VGG19Sigmoid", {"depth": 11, "sigmoid": True})  # type: ignore[arg-type]
    for name in FIXED[2:]:
        variant = CLIPViT.variants[name]
        shape = dataclasses.replace(variant["shape"], width=64, heads=2, depth=2)
        monkeypatch.setitem(CLIPViT.variants, name, {**variant, "shape": shape})  # type: ignore[arg-type]


def splits_of(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The dotted key of each split of a config, with its values."""
    loaders = RECIPES[name]["DataLoader"]
    yield "DataLoader.Train", loaders["Train"]
    evaluation = loaders["Eval"]
    parts = {"": evaluation} if "dataset" in evaluation else {f".{key}": part for key, part in evaluation.items()}
    yield from ((f"DataLoader.Eval{key}", part) for key, part in parts.items())


def small_size(size: int | list[int]) -> int | list[int]:
    """32 pixels; twice as many high where images are twice as high."""
    return [32, 64] if isinstance(size, list) and size[0] != size[1] else 32


def options_for(name: str) -> list[str]:
    """The options that a config needs here, and others for small images, small batches and fewer classes."""
    values, options = RECIPES[name], [*OPTIONS.get(name, []), "Global.pretrained_model=null"]
    models = values["Arch"].get("models") or [{None: values["Arch"]}]
    for key, block in (item for model in models for item in model.items()):
        place = f"Arch.models.{key}" if key else "Arch"
        options += [f"{place}.Backbone.pretrained=False", *([f"{place}.Head.class_num=9"] if "Head" in block else [])]
    options += ["Loss.Train.CenterLoss.num_classes=9"] if "CenterLoss" in str(values["Loss"]) else []
    network = values["Arch"].get("Backbone", {}).get("name")
    for key, part in splits_of(name):
        options.append(f"{key}.sampler.batch_size={2 if network in FIXED else 8}")
        if part["dataset"]["name"] != "Market1501":
            listed = "logos.txt" if name == LOGO else "list.txt"
            options += [f"{key}.dataset.image_root=./dataset", f"{key}.dataset.cls_label_path={listed}"]
        options += [f"{key}.dataset.name=LogoDataset"] if name == LOGO else []  # its reader, in earlier versions
        options += [f"{key}.dataset.label_root=./dataset/label"] if "label_root" in part["dataset"] else []
        for number, item in enumerate(part["dataset"].get("transform_ops", [])):
            for operation, arguments in item.items():
                if "size" in (arguments or {}) and network not in FIXED:
                    place = f"{key}.dataset.transform_ops.{number}.{operation}.size"
                    options.append(f"{place}={small_size(arguments['size'])}")
    return options


def faces() -> list[str]:
    """Options for AdaFace's config with a list of images in place of its packed faces."""
    images = "{name: ImageNetDataset, image_root: ./dataset, cls_label_path: ./list.txt, transform_ops: "
    images += "[ResizeImage: {size: [112, 112]}, ToTensor: , Normalize: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}]}"
    seen = [f"DataLoader.{part}.dataset={images}" for part in ("Train", "Eval")]
    return [*seen, "Global.eval_mode=retrieval", "DataLoader.Train.sampler.batch_size=2", "Arch.Head.class_num=9"]


TRAINED = [name for name in RECIPES if name not in REFUSED or name == ADAFACE]  # AdaFace's by options


def test_most_of_them_are_trained() -> None:
    assert len(TRAINED) == 31


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_two_steps(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REHEARSED", 2)
    options = faces() if name == ADAFACE else options_for(name)
    config = with_lists(
        load_config(write(tmp_path, name), [*options, f"Global.output_dir={tmp_path}"], root=folder),
        ("train", "query", "gallery"),
    )
    training = build_training(config, device="cpu", ranks=Ranks(), threads=1, reporter=SilentReporter())
    assert len(training.dataset) == CLASSES * PER_CLASS
    before = {name: tensor.numpy().copy() for name, tensor in training.optimizer.parameters}
    Trainer(training, RunLog(tmp_path / "train.log", None), SilentReporter()).rehearse(60.0)
    after = {name: tensor.numpy() for name, tensor in training.optimizer.parameters}
    assert all(np.isfinite(value).all() for value in after.values())
    changed = [name for name, value in after.items() if not np.array_equal(value, before[name])]
    assert len(changed) > 0.9 * len(after), sorted(set(after) - set(changed))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "smaller", "says"),
    [
        (
            "Products/MV3_Large_1x_Aliproduct_DLBHC",
            ["Arch.Backbone.name=MobileNetV3_small_x0_35"],
            "the classifier, on 16 images",
        ),
        (
            "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5_udml",
            # An epoch of two steps would be the beginning of the warm-up, which changes nothing.
            [
                "Optimizer.lr.warmup_epoch=0",
                *(f"Arch.models.{network}.Backbone.name=PPLCNet_x0_25" for network in ("Teacher", "Student")),
            ],
            "recall@1",
        ),
    ],
)
def test_from_train_to_export(name: str, smaller: list[str], says: str, folder: Path, tmp_path: Path) -> None:
    """As PaddleClas's three tools are called: weights are named by `-o Global.pretrained_model`."""
    config = str(write(tmp_path, name))
    options = [*options_for(name), *smaller, "Global.device=cpu", f"Global.output_dir={tmp_path / 'output'}"]
    words = ["-c", config, *(word for option in options for word in ("-o", option))]
    shitu("train", *words, "-o", "Global.epochs=1", "-o", "Global.eval_during_train=False", cwd=folder)
    words += ["-o", f"Global.pretrained_model={tmp_path / 'output/latest'}"]
    (tmp_path / "output/best_model.pdparams").unlink()  # not the one that is named
    assert says in shitu("evaluate", *words, cwd=folder).stdout
    if "models" in RECIPES[name]["Arch"]:  # once is enough: a new process proves what it computes
        words += ["-o", f"Global.save_inference_dir={tmp_path / 'inference'}"]
        shitu("export", *words, "--format", "pdmodel", cwd=folder)
        assert (tmp_path / "inference/inference.pdmodel").is_file()
