"""Drawn images for `shitu demo`: made-up products under changes of view, light, background and scale.

A class is one product: an outline, a pattern, a few colours and a badge, all drawn from the class's own seed.
Palettes and patterns are shared by many classes and the light changes colour, so that no single cue names a class;
what does is the combination, which is what a network for retrieval has to learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Image = np.ndarray[Any, np.dtype[Any]]

CANVAS = 160  # side of the upright drawing of a product, in pixels
SPLITS = {"train": (64, 24), "query": (24, 4), "gallery": (24, 8)}  # split -> classes, images per class

_PALETTES = (
    ((34, 87, 122), (56, 163, 165), (199, 249, 204)),
    ((208, 0, 0), (255, 186, 8), (63, 136, 197)),
    ((61, 52, 139), (118, 120, 237), (247, 184, 1)),
    ((73, 80, 87), (173, 181, 189), (233, 236, 239)),
    ((96, 108, 56), (221, 161, 94), (254, 250, 224)),
    ((114, 9, 183), (247, 37, 133), (76, 201, 240)),
)
_PATTERNS = ("plain", "stripes", "bars", "dots", "checks", "rings")


@dataclass(frozen=True)
class Product:
    """What all images of one class share. Coordinates are fractions of the canvas."""

    outline: Image  # [P, 2] float, a closed polygon around (0.5, 0.5)
    colours: tuple[tuple[int, int, int], ...]
    pattern: str
    period: float  # of the pattern, in pixels of the canvas
    badge: str
    badge_at: tuple[float, float]


def make_product(seed: int) -> Product:
    """Return the product of a class; equal seeds give equal products."""
    rng = np.random.default_rng((7919, seed))
    corners = int(rng.integers(3, 9))
    smooth = rng.random() < 0.5
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False) + rng.uniform(0, math.pi)
    depth = rng.uniform(0.08, 0.35)
    wave = np.cos(corners * angles) if smooth else 2 * np.abs((corners * angles / (2 * math.pi)) % 1 - 0.5)
    radius = 0.42 * (1 - depth + depth * wave)
    stretch = rng.uniform(0.6, 1.0)
    outline = np.stack([0.5 + radius * np.cos(angles), 0.5 + stretch * radius * np.sin(angles)], axis=1)
    colours = [_PALETTES[int(rng.integers(len(_PALETTES)))][i] for i in rng.permutation(3)]
    return Product(
        outline=outline,
        colours=tuple(colours),
        pattern=_PATTERNS[int(rng.integers(len(_PATTERNS)))],
        period=float(rng.uniform(12, 34)),
        badge="".join(rng.choice(list("ABEHKMNRSTXZ2578"), size=2)),
        badge_at=(float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.45, 0.65))),
    )


def draw_upright(product: Product) -> tuple[Image, Image]:
    """Return the product seen from the front: RGB uint8 [CANVAS, CANVAS, 3], and its mask, 0 or 255."""
    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32)
    phase = 2 * math.pi / product.period
    field = {
        "plain": np.zeros_like(x),
        "stripes": np.sin(phase * (x + y)),
        "bars": np.sin(phase * x),
        "dots": np.sin(phase * x) * np.sin(phase * y) - 0.35,
        "checks": np.sin(phase * x) * np.sin(phase * y),
        "rings": np.sin(phase * np.hypot(x - CANVAS / 2, y - CANVAS / 2)),
    }[product.pattern]
    inks = np.array(product.colours, np.uint8)
    face: Image = np.where((field > 0)[..., None], inks[1], inks[0])
    polygon = (product.outline * CANVAS).astype(np.int32)
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA)
    face = np.ascontiguousarray(face)
    cv2.polylines(face, [polygon], True, product.colours[2], 5, cv2.LINE_AA)
    place = (int(product.badge_at[0] * CANVAS), int(product.badge_at[1] * CANVAS))
    cv2.putText(face, product.badge, place, cv2.FONT_HERSHEY_DUPLEX, 1.5, (20, 20, 20), 7, cv2.LINE_AA)
    cv2.putText(face, product.badge, place, cv2.FONT_HERSHEY_DUPLEX, 1.5, product.colours[2], 3, cv2.LINE_AA)
    return face, mask


def photograph(product: Product, rng: np.random.Generator, size: int = 128) -> Image:
    """Return an image of the product, RGB uint8 [size, size, 3], in another view, light and scale each time."""
    face, mask = draw_upright(product)
    view = _view(rng, size)
    scene = _background(rng, size)
    alpha = (cv2.warpPerspective(mask, view, (size, size)).astype(np.float32) / 255)[..., None]
    scene = scene * (1 - alpha) + cv2.warpPerspective(face, view, (size, size)).astype(np.float32) * alpha
    _occlude(scene, rng)
    scene = _light(scene, rng)
    if rng.random() < 0.3:
        scene = cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.5, 1.4)))
    scene += rng.normal(0, rng.uniform(1, 7), scene.shape)
    return np.clip(scene, 0, 255).astype(np.uint8)


def write_dataset(root: Path, *, seed: int = 0, size: int = 128) -> dict[str, int]:
    """Write `root/{train,query,gallery}/<class>/<n>.jpg`; query and gallery show classes that train never does.

    Returns the number of images of each split.
    """
    written = {}
    unseen = SPLITS["train"][0]
    for part, (split, (classes, per_class)) in enumerate(SPLITS.items()):
        first = 0 if split == "train" else unseen
        for label in range(first, first + classes):
            product = make_product(seed * 100_000 + label)
            folder = root / split / f"product_{label:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            for n in range(per_class):
                rng = np.random.default_rng((seed, part, label, n))
                _, coded = cv2.imencode(".jpg", photograph(product, rng, size)[:, :, ::-1])
                (folder / f"{n:03d}.jpg").write_bytes(coded.tobytes())
        written[split] = classes * per_class
    return written


def _view(rng: np.random.Generator, size: int) -> Image:
    """Return a homography from the canvas to an image: rotation, scale, position and perspective."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) - 0.5
    turn = rng.uniform(-0.5, 0.5)  # radians
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], np.float32)
    seen = corners @ rotation.T * rng.uniform(0.55, 1.05) + rng.uniform(-0.1, 0.1, 2)
    seen = (seen * (1 + rng.uniform(-0.16, 0.16, (4, 1))) + 0.5) * size
    return cv2.getPerspectiveTransform((corners + 0.5) * CANVAS, seen.astype(np.float32))


def _background(rng: np.random.Generator, size: int) -> Image:
    """Return a coloured gradient with clutter, float32 [size, size, 3]."""
    ends = rng.uniform(30, 225, (2, 2, 3)).astype(np.float32)
    scene = cv2.resize(ends, (size, size), interpolation=cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(3, 10))):
        colour = tuple(rng.uniform(10, 245, 3).tolist())
        a, b = (tuple(int(v) for v in rng.integers(0, size, 2)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.circle(scene, a, int(rng.integers(4, size // 4)), colour, -1, cv2.LINE_AA)
        else:
            cv2.line(scene, a, b, colour, int(rng.integers(2, 14)), cv2.LINE_AA)
    return cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.6, 3)))


def _occlude(scene: Image, rng: np.random.Generator) -> None:
    """Put something in front of a border of some images."""
    if rng.random() < 0.35:
        size = scene.shape[0]
        side, depth = int(rng.integers(4)), int(size * rng.uniform(0.05, 0.25))
        part = np.rot90(scene, side)[:depth]
        part[:] = rng.uniform(20, 235, 3)


def _light(scene: Image, rng: np.random.Generator) -> Image:
    """Return the scene under a lamp of another colour and strength, brighter on one side."""
    size = scene.shape[0]
    lamp = rng.uniform(0.55, 1.25) * rng.uniform(0.85, 1.15, 3)
    ramp = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.9, 1.2), size, dtype=np.float32)
    ramp = np.rot90(np.broadcast_to(ramp, (size, size)), int(rng.integers(4)))
    return np.asarray(scene * ramp[..., None] * lamp, np.float32)
