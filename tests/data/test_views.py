"""Views of images: the same crop for two networks, again after some batches, with mirroring and erasing left open."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from shitu_cli.config.parts.augmentations import (
    ColorJitter,
    RandCropImage,
    RandFlipImage,
    RandomErasing,
    RandomRotation,
)
from shitu_cli.config.parts.transforms import DecodeImage, NormalizeImage, ResizeImage
from shitu_cli.config.schema import DatasetConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.loader import BatchLoader, SequentialLoader
from shitu_cli.data.transforms import build_transforms
from shitu_cli.data.views import Views, ops_for_another, split_at_view

CROP = (DecodeImage(), RandCropImage(size=48, scale=(0.3, 1.0)), RandomRotation(0.5, 15, padding_mode="reflect"))
LAST = (RandFlipImage(flip_code=1), RandomErasing(EPSILON=0.5), NormalizeImage())
OTHER = (ResizeImage(size=80), NormalizeImage(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)))
COUNT = 9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> RecDataset:
    """Smooth images, which look alike at any size."""
    folder, rng = tmp_path_factory.mktemp("views"), np.random.default_rng(5)
    y, x = np.mgrid[0:150, 0:200] / 40
    for number in range(COUNT):
        waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.5, 2, (3, 3))]
        cv2.imwrite(str(folder / f"{number}.png"), ((np.stack(waves, axis=2) + 1) * 127).astype(np.uint8))
    path = folder / "list.txt"
    path.write_text("".join(f"{number}.png\t0\n" for number in range(COUNT)))
    return RecDataset(DatasetConfig("ImageNetDataset", str(folder), str(path), transform_ops=(*CROP, *LAST)))


def test_what_is_new_each_time_is_at_the_end() -> None:
    assert split_at_view((*CROP, *LAST)) == (CROP, LAST)
    jitter = (DecodeImage(), RandFlipImage(), ColorJitter(), NormalizeImage())
    assert split_at_view(jitter) == (jitter[:3], jitter[3:])
    late = (DecodeImage(), NormalizeImage(), ResizeImage(size=8), RandFlipImage())  # of floats, channels first
    assert split_at_view(late) == (late, ())


class Order:
    """Some images in two batches an epoch, another order each time; one of them comes twice in a batch."""

    def set_epoch(self, epoch: int) -> None:
        order = np.random.default_rng(epoch).permutation(COUNT).tolist()
        self.groups = [order[:4], [*order[4:], order[4]]]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.groups)

    def __len__(self) -> int:
        return 2


def test_another_network_is_shown_the_very_view_of_a_batch(dataset: RecDataset) -> None:
    views = Views(dataset, seed=3, count=3)
    ops = ops_for_another(dataset.config.transform_ops, OTHER)
    assert build_transforms(ops).normalize == build_transforms(OTHER).normalize
    other = RecDataset(dataclasses.replace(dataset.config, transform_ops=ops))
    seen = [
        np.concatenate([batch.images for batch in SequentialLoader(other, 5, num_workers=0, seed=views.seed_of(view))])
        for view in range(3)
    ]
    assert seen[0].shape == (COUNT, 80, 80, 3)
    loader = BatchLoader(dataset, Order(), seed=3, num_workers=0, views=views)
    shown, looks = set(), {}
    for epoch in range(4):
        for batch in loader.epoch(epoch):
            for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
                distances = [distance(seen[view][index], image) for view in range(3)]
                assert np.argmin(distances) == batch.view and distances[batch.view] < 6, distances
                shown.add((index, batch.view))
                looks.setdefault((index, batch.view), set()).add(image.tobytes())
    assert len(shown) > 2 * COUNT  # images come in all their views
    assert max(map(len, looks.values())) > 1  # erased and mirrored in other ways


def distance(seen: np.ndarray, image: np.ndarray) -> float:
    """How much two images differ where nothing is erased; the second may be mirrored."""
    small = cv2.resize(seen, (48, 48)).astype(float)
    return min(float(np.median(np.abs(small - way).max(2))) for way in (image, image[:, ::-1]))


def test_a_resumed_epoch_shows_the_same(dataset: RecDataset) -> None:
    loader = BatchLoader(dataset, Order(), seed=3, num_workers=0, views=Views(dataset, seed=3, count=3))
    whole, rest = [*loader.epoch(2)], [*loader.epoch(2, start_step=1)]
    assert [batch.view for batch in whole[1:]] == [batch.view for batch in rest]
    assert np.array_equal(whole[1].images, rest[0].images)


def test_a_crop_before_another_size_is_still_shown_at_the_size_of_the_other(dataset: RecDataset) -> None:
    image = dataset.load(0, np.random.default_rng(0), lambda image, rng: image)
    ops = ops_for_another((*CROP, ResizeImage(size=32), *LAST), OTHER)
    assert build_transforms(ops)(image, np.random.default_rng(0)).shape == (80, 80, 3)
