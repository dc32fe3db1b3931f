"""Compute the same features for an image whether it is alone or in a batch, whatever the number of threads.

The programs that run networks divide a sum among threads, and choose other instructions for a batch than for a single
image if that is faster; each order of adding rounds differently. So the features of an image are defined as those that
one call for this image alone computes on one thread:

- ONNX Runtime and OpenVINO compute exactly that, for as many images at a time as the process has threads, none of which
  waits for another. benchmarks/inference.py shows the cost compared with all threads on one batch; a single image,
  which one thread computes, loses most.
- Paddle Inference holds the interpreter's lock while it computes, so that calls cannot overlap, and each call takes two
  milliseconds more. It therefore computes groups of images on all threads, but only after a group of noise has given
  the same bits as its single images, on this machine and for this network and size of image (noise, because its sums
  differ for any other order). If the bits differ, it falls back to one thread, then to single images.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]  # float32 [N, 3, H, W] → float32 [N, D]

GROUP = 8  # images in a call of Paddle Inference; more save hardly anything


def side_by_side(single: Run, threads: int) -> Run:
    """Return `single` called for one image at a time, by `threads` threads at once; it must be safe for that.

    Whoever calls it while so many compute waits: images that take turns would all be late.
    """
    turns = threading.Semaphore(threads)

    def one(image: np.ndarray) -> np.ndarray:
        with turns:
            return single(image)

    def run(images: np.ndarray) -> np.ndarray:
        parts = [images[n : n + 1] for n in range(len(images))]
        if threads == 1 or len(parts) < 2:
            return _joined([one(part) for part in parts])
        with ThreadPoolExecutor(min(threads, len(parts)), thread_name_prefix="shitu-engine") as pool:
            return _joined(list(pool.map(one, parts)))

    return run


def in_groups(open_run: Callable[[int], Run], threads: int) -> Run:
    """Return a run over groups of images if they give the bits of single ones; `open_run(n)` opens one on n threads."""
    single = open_run(1)
    many = single if threads == 1 else open_run(threads)  # now, as the files may be gone later
    groups: dict[tuple[int, ...], Run | None] = {}  # by an image's shape; None: single images only

    def run(images: np.ndarray) -> np.ndarray:
        whole = len(images) - len(images) % GROUP
        shape = images.shape[1:]
        if whole and shape not in groups:
            groups[shape] = _equal_to(single, [many, single], shape)
        group = groups.get(shape)
        if group is None:
            whole = 0
        parts = [group(images[n : n + GROUP]) for n in range(0, whole, GROUP)] if group is not None else []
        return _joined([*parts, *(single(images[n : n + 1]) for n in range(whole, len(images)))])

    return run


def _equal_to(single: Run, candidates: list[Run], shape: tuple[int, ...]) -> Run | None:
    """Return the first of `candidates` that computes every image of a group as `single` does; None without one."""
    noise = np.random.default_rng(0).standard_normal((GROUP, *shape)).astype(np.float32)
    expected = _joined([single(noise[n : n + 1]) for n in range(GROUP)])
    return next((group for group in candidates if np.array_equal(group(noise), expected)), None)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
