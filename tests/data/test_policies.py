"""Random changes with PaddleClas's strengths: each change against Pillow's own arithmetic."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from shitu_cli.config.parts.augmentations import timm_settings
from shitu_cli.data import policies
from shitu_cli.data.transforms import build_transforms
from tests.parts import operation

SMOOTH = cv2.resize(np.random.default_rng(7).integers(0, 256, (6, 6, 3)).astype(np.uint8), (48, 40))
IMAGE = Image.fromarray(SMOOTH)


class Always:
    """A generator that draws the middle, and the positive direction."""

    def random(self) -> float:
        return 0.25

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def mean_change(changed: Image.Image | np.ndarray) -> float:
    return float(np.abs(np.asarray(changed).astype(float) - SMOOTH).mean())


def test_augmix_is_weak_as_there() -> None:
    """One change a chain, at 0.1 to 1 of 10: posterised to 4 bits, hardly turned, black beyond the edge."""
    posterize, rotate, solarize = policies.MIX_CHANGES[2:5]
    for level in (0.01, 0.1):
        np.testing.assert_array_equal(posterize(IMAGE, level, Always()), SMOOTH & 0xF0)
    turned = np.asarray(rotate(IMAGE, 0.1, Always()))
    np.testing.assert_array_equal(turned, IMAGE.rotate(3, resample=Image.Resampling.BILINEAR))
    assert (turned[0, -1] == 0).all()
    np.testing.assert_array_equal(solarize(IMAGE, 0.1, Always()), ImageOps.solarize(IMAGE, 231))
    moved = np.asarray(policies.MIX_CHANGES[7](IMAGE, 0.1, Always()))
    np.testing.assert_array_equal(moved[:, :-1], SMOOTH[:, 1:])
    assert (moved[:, -1] == 0).all()
    augmix = build_transforms([operation("AugMix", {"prob": 1.0})])
    changes = [mean_change(augmix(SMOOTH, np.random.default_rng(seed))) for seed in range(100)]
    assert 1 < np.mean(changes) < 12


def test_rand_augment_posterises_to_two_bits_at_half_strength() -> None:
    change = policies.RAND_CHANGES[6]
    np.testing.assert_array_equal(change(IMAGE, 0.5, (128, 128, 128), Always()), SMOOTH & 0xC0)
    assert mean_change(change(IMAGE, 0.5, (128, 128, 128), Always())) > 20
    turned = np.asarray(policies.RAND_CHANGES[4](IMAGE, 0.5, (0, 0, 0), Always()))
    np.testing.assert_array_equal(turned, IMAGE.rotate(15, fillcolor=(128, 128, 128)))
    moved = np.asarray(policies.RAND_CHANGES[2](IMAGE, 0.5, (1, 2, 3), Always()))
    assert (moved[:, -1] == (1, 2, 3)).all()


def test_timm_strengths_grow_with_the_level_where_asked() -> None:
    policy = operation("TimmAutoAugment", {"config_str": "rand-m7-mstd0.5-inc1"}).build()
    assert (policy.strength, policy.spread, policy.layers, policy.increasing) == (7.0, 0.5, 2, True)
    assert policy.fill == (124, 116, 104)
    assert [policy.bits(level) for level in (0.0, 0.7, 1.0)] == [4, 2, 0]
    assert [policy.threshold(level) for level in (0.0, 0.7, 1.0)] == [256, 77, 0]
    assert policy.factor(0.7, Always()) == pytest.approx(1.63)
    plain = operation("TimmAutoAugment", {"config_str": "rand-m9-n3"}).build()
    assert plain.layers == 3 and plain.bits(0.9) == 3 and plain.threshold(0.5) == 128
    assert plain.factor(0.5, Always()) == pytest.approx(1.0)
    added = np.asarray(policies.TIMM_CHANGES[6](IMAGE, 0.5, policy, None, Always()))
    np.testing.assert_array_equal(added, np.where(SMOOTH < 128, np.minimum(SMOOTH + 55.0, 255), SMOOTH))


def test_timm_text_that_says_nothing_is_refused() -> None:
    for text in ("augmix-m5", "v0", "rand-x3", "rand-m", "rand-n0"):
        with pytest.raises(ValueError):
            timm_settings(text)


@pytest.mark.parametrize("name", ["TimmAutoAugment", "RandAugment", "AugMix"])
@pytest.mark.parametrize("shape", [(33, 21, 3), (1, 9, 3)])
def test_every_change_keeps_the_form(name: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    args = {"prob": 1.0} if name != "RandAugment" else {}
    transform = build_transforms([operation(name, args)])
    for seed in range(60):
        out = transform(image, np.random.default_rng(seed))
        assert out.shape == shape and out.dtype == np.uint8 and out.flags.writeable


def test_pillow_resizes_where_it_is_named() -> None:
    """PaddleClas's `backend: pil` is Pillow itself, whose default is bicubic."""
    for method, resampling in (("bilinear", Image.Resampling.BILINEAR), (None, Image.Resampling.BICUBIC)):
        part = operation("ResizeImage", {"size": [17, 11], "backend": "pil", "interpolation": method})
        np.testing.assert_array_equal(
            build_transforms([part])(SMOOTH, np.random.default_rng(0)), IMAGE.resize((17, 11), resampling)
        )


def test_paddles_own_transforms_do_as_paddle_does() -> None:
    from paddle.vision import transforms as paddles

    rng = np.random.default_rng(3)
    for size in ((40, 48), (61, 33), (20, 20)):
        array = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        image = Image.fromarray(array)
        for name, value in (("Resize", 24), ("Resize", [30, 20]), ("CenterCrop", 20), ("CenterCrop", [15, 18])):
            transform = build_transforms([operation(name, {"size": value})])
            expected = np.asarray(getattr(paddles, name)(value)(image))
            np.testing.assert_array_equal(transform(array, rng), expected, err_msg=f"{name} {value}")
    crop = build_transforms([operation("RandomResizedCrop", {"size": [16, 24], "scale": [0.2, 1.0]})])
    assert all(crop(array, np.random.default_rng(seed)).shape == (16, 24, 3) for seed in range(20))
    flip = build_transforms([operation("RandomHorizontalFlip", {})])
    flips = [bool((flip(SMOOTH, np.random.default_rng(seed)) != SMOOTH).any()) for seed in range(40)]
    assert 10 < sum(flips) < 30
