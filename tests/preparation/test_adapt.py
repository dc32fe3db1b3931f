"""What prepare writes into a config, from what it has found out about the data."""

from pathlib import Path

import pytest
import yaml

from shitu_cli.config.patch import patch_yaml
from shitu_cli.preparation.adapt import DataFacts, adapt_values

TEMPLATES = sorted(path.stem for path in (Path(__file__).parents[2] / "templates").glob("*.yaml"))
QUICK_SIDE = 112


def adapted(template: str, **facts: object) -> dict:
    text = (Path(__file__).parents[2] / "templates" / f"{template}.yaml").read_text()
    known = DataFacts(**{"class_num": 5, "train_images": 2000, "image_root": "./data", **facts})
    return yaml.safe_load(patch_yaml(text, adapt_values(text, known, template=template))[0])


def decoding(config: dict) -> list[dict]:
    """The DecodeImage blocks of training, queries and gallery."""
    loaders = config["DataLoader"]
    splits = [loaders["Train"], loaders["Eval"]["Query"], loaders["Eval"]["Gallery"]]
    return [op["DecodeImage"] for split in splits for op in split["dataset"]["transform_ops"] if "DecodeImage" in op]


@pytest.mark.parametrize("template", TEMPLATES)
def test_large_pictures_are_decoded_reduced_in_training_and_evaluation_alike(template: str) -> None:
    assert [op.get("reduced") for op in decoding(adapted(template, short_side=3000))] == [True] * 3


def test_others_are_decoded_whole() -> None:
    assert not any("reduced" in op for op in decoding(adapted("quick", short_side=6 * QUICK_SIDE - 1)))
    assert all(op["reduced"] for op in decoding(adapted("quick", short_side=6 * QUICK_SIDE)))


@pytest.mark.parametrize(("pictures", "epochs"), [(500, 180), (2000, 180), (10_000, 48), (1_000_000, 8)])
def test_the_quick_template_fits_its_epochs_to_the_pictures(pictures: int, epochs: int) -> None:
    assert adapted("quick", train_images=pictures)["Global"]["epochs"] == epochs


def test_the_tuned_template_looks_at_fewer() -> None:
    epochs = [adapted("tuned", train_images=images)["Global"]["epochs"] for images in (100, 2640, 1_000_000)]
    assert epochs == [40, 8, 4]


@pytest.mark.parametrize(("side", "sizes"), [(0, [160, 224, 224]), (128, [128, 160, 160]), (300, [160, 224, 224])])
def test_small_images_are_enlarged_less(side: int, sizes: list[int]) -> None:
    config = adapted("tuned", short_side=side)
    loaders = config["DataLoader"]
    splits = [loaders["Train"], loaders["Eval"]["Query"], loaders["Eval"]["Gallery"]]
    ops = [op for split in splits for op in split["dataset"]["transform_ops"]]
    assert [value["size"] for op in ops for name, value in op.items() if "size" in value] == sizes
    assert config["Global"]["image_shape"] == [3, sizes[1], sizes[1]]


@pytest.mark.parametrize(("classes", "images", "batch"), [(1000, 9000, 64), (12, 9000, 48), (12, 60, 28), (2, 9000, 8)])
def test_a_batch_needs_no_more_classes_than_there_are(classes: int, images: int, batch: int) -> None:
    sampler = adapted("general_v2", class_num=classes, train_images=images)["DataLoader"]["Train"]["sampler"]
    assert (sampler["batch_size"], sampler["sample_per_id"]) == (batch, 4)
