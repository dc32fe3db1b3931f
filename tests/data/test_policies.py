"""Random changes with PaddleClas's strengths: each change against Pillow's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from shitu_cli.config.parts.augmentations import timm_settings
from shitu_cli.data import policies
from shitu_cli.data.transforms import build_transforms
from tests.parts import operation

SMOOTH = cv2.resize(np.random.default_rng(7).integers(0, 256, (6, 6, 3)).astype(np.uint8), (48, 40))
IMAGE = Image.fromarray(SMOOTH)
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


class Always:
    """A generator that draws the middle, and the positive direction."""

    def random(self) -> float:
        return 0.25

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def mean_change(changed: Image.Image | np.ndarray) -> float:
    return float(np.abs(np.asarray(changed).astype(float) - SMOOTH).mean())


def test_augmix_is_weak_as_there() -> None:
    """One change a chain, at 0.1 to 1 of 10; even the weakest posterises to 4 bits."""
    np.testing.assert_array_equal(policies.MIX_CHANGES[2](IMAGE, 0.01, Always()), SMOOTH & 0xF0)
    augmix = build_transforms([operation("AugMix", {"prob": 1.0})])
    changes = [mean_change(augmix(SMOOTH, np.random.default_rng(seed))) for seed in range(100)]
    assert 1 < np.mean(changes) < 12


@pytest.mark.parametrize(("severity", "low", "high"), [(1.0, 0.01, 0.1), (5.0, 0.01, 0.5), (0.05, 0.005, 0.01)])
def test_augmix_draws_levels_between_a_tenth_and_the_severity(
    severity: float, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[float] = []
    monkeypatch.setattr(policies, "MIX_CHANGES", (lambda image, level, rng: levels.append(level) or image,))
    augmix = operation("AugMix", {"prob": 1.0, "aug_severity": severity}).build()
    rng = np.random.default_rng(1)
    for _ in range(100):
        augmix(SMOOTH[:1, :1], rng)
    assert len(levels) == 100 * 3  # three chains of one change
    quarters = np.quantile(levels, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quarters, np.linspace(low, high, 5), atol=0.1 * (high - low))


def test_augmix_mixes_by_the_distribution_of_its_coefficient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the chains is Beta(0.1, 0.1): its mean is 1/2, its variance 1 / (4 (1 + 2 * 0.1))."""
    monkeypatch.setattr(policies, "MIX_CHANGES", (lambda image, level, rng: ImageOps.invert(image),))
    augmix, black = operation("AugMix", {"prob": 1.0}).build(), np.zeros((1, 1, 3), np.uint8)
    rng = np.random.default_rng(1)
    shares = [augmix(black, rng)[0, 0, 0] / 255 for _ in range(300)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08) and np.var(shares) == pytest.approx(1 / 4.8, abs=0.03)


def changes_of(table: tuple[Callable[..., Image.Image], ...], *settings: object) -> list[np.ndarray]:
    """The image after each change of a table, in the positive direction."""
    return [np.asarray(change(IMAGE, *settings, Always())) for change in table]


def moved(matrix: tuple[float, ...], fill: tuple[int, int, int], method: Image.Resampling) -> Image.Image:
    return IMAGE.transform(IMAGE.size, Image.Transform.AFFINE, matrix, method, fillcolor=fill)


def enhanced(factor: float) -> dict[str, Image.Image]:
    names = ("Color", "Contrast", "Brightness", "Sharpness")
    return {name: getattr(ImageEnhance, name)(IMAGE).enhance(factor) for name in names}


def test_each_change_of_rand_augment_at_half_strength() -> None:
    fill, by = (1, 2, 3), enhanced(1 + 0.45)
    x, y = (150 / 331 * 0.5 * side for side in IMAGE.size)
    expected = [
        moved((1, 0.15, 0, 0, 1, 0), fill, BICUBIC),
        moved((1, 0, 0, 0.15, 1, 0), fill, BICUBIC),
        moved((1, 0, x, 0, 1, 0), fill, Image.Resampling.NEAREST),
        moved((1, 0, 0, 0, 1, y), fill, Image.Resampling.NEAREST),
        IMAGE.rotate(15, fillcolor=(128, 128, 128)),
        *(by["Color"], ImageOps.posterize(IMAGE, 2), ImageOps.solarize(IMAGE, 128)),
        *(by["Contrast"], by["Sharpness"], by["Brightness"]),
        *(ImageOps.autocontrast(IMAGE), ImageOps.equalize(IMAGE), ImageOps.invert(IMAGE)),
    ]
    np.testing.assert_array_equal(changes_of(policies.RAND_CHANGES, 0.5, fill), expected)


def test_each_change_of_augmix_at_a_tenth() -> None:
    expected = [
        *(ImageOps.autocontrast(IMAGE), ImageOps.equalize(IMAGE), ImageOps.posterize(IMAGE, 4)),
        *(IMAGE.rotate(3, resample=BILINEAR), ImageOps.solarize(IMAGE, 231)),
        moved((1, 0.03, 0, 0, 1, 0), (0, 0, 0), BILINEAR),
        moved((1, 0, 0, 0.03, 1, 0), (0, 0, 0), BILINEAR),
        moved((1, 0, 1, 0, 1, 0), (0, 0, 0), BILINEAR),
        moved((1, 0, 0, 0, 1, 1), (0, 0, 0), BILINEAR),
    ]
    np.testing.assert_array_equal(changes_of(policies.MIX_CHANGES, 0.1), expected)


def test_each_change_of_timm_at_seven_of_ten() -> None:
    policy, fill, by = operation("TimmAutoAugment").build(), (124, 116, 104), enhanced(1 + 0.63)
    brighter = np.where(SMOOTH < 128, np.minimum(SMOOTH + 77.0, 255), SMOOTH).astype(np.uint8)
    x, y = (0.45 * 0.7 * side for side in IMAGE.size)
    expected = [
        *(ImageOps.autocontrast(IMAGE), ImageOps.equalize(IMAGE), ImageOps.invert(IMAGE)),
        IMAGE.rotate(21, BICUBIC, fillcolor=fill),
        *(ImageOps.posterize(IMAGE, 2), ImageOps.solarize(IMAGE, 77), brighter, *by.values()),
        *(moved((1, 0.21, 0, 0, 1, 0), fill, BICUBIC), moved((1, 0, 0, 0.21, 1, 0), fill, BICUBIC)),
        *(moved((1, 0, x, 0, 1, 0), fill, BICUBIC), moved((1, 0, 0, 0, 1, y), fill, BICUBIC)),
    ]
    np.testing.assert_array_equal(changes_of(policies.TIMM_CHANGES, 0.7, policy, BICUBIC), expected)


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
    for text in ("augmix-m5", "v0", "rand-x3", "rand-m", "rand-n0", "rand-m9-inc0", "rand-m9-w0"):
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
