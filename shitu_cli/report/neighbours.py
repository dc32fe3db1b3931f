"""Draw queries with their nearest gallery images: correct ones ticked and in a thick frame, wrong ones crossed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from shitu_cli.data.images import decode_image
from shitu_cli.files import atomic_write

CELL, GAP = 112, 8  # pixels
GREEN, RED, INK = (30, 140, 60), (200, 40, 40), (40, 40, 40)


@dataclass(frozen=True)
class Neighbours:
    """One row: a query image and its nearest gallery images, best first, each with whether its label is correct."""

    query: Path
    gallery: Sequence[tuple[Path, bool, float]]  # path, right, cosine similarity


def draw_neighbours(rows: Sequence[Neighbours], out: Path) -> None:
    """Write the rows as one PNG. Raises EnvironmentProblem if `out` cannot be written, DataError for a bad image."""
    columns = 1 + max(len(row.gallery) for row in rows)
    sheet = np.full((len(rows) * (CELL + 24) + 36, columns * (CELL + GAP) + 3 * GAP, 3), 255, np.uint8)
    _write(sheet, "query", (GAP, 22))
    _write(sheet, "nearest gallery images, best first", (CELL + 4 * GAP, 22))
    for r, row in enumerate(rows):
        top = 32 + r * (CELL + 24)
        _paste(sheet, row.query, top, GAP)
        for c, (path, right, score) in enumerate(row.gallery):
            left = CELL + 4 * GAP + c * (CELL + GAP)
            _paste(sheet, path, top, left)
            _mark(sheet, right, score, top, left)
    png = cv2.imencode(".png", sheet[:, :, ::-1])[1]
    with atomic_write(out) as file:
        file.write(png.tobytes())


def _paste(sheet: np.ndarray, path: Path, top: int, left: int) -> None:
    image = decode_image(path)
    height, width = image.shape[:2]
    shrink = CELL / max(height, width)
    small = cv2.resize(image, (max(1, int(width * shrink)), max(1, int(height * shrink))), interpolation=cv2.INTER_AREA)
    y, x = top + (CELL - small.shape[0]) // 2, left + (CELL - small.shape[1]) // 2
    sheet[y : y + small.shape[0], x : x + small.shape[1]] = small


def _mark(sheet: np.ndarray, right: bool, score: float, top: int, left: int) -> None:
    """Draw frame, sign and score of a neighbour; the sign can be read without colour."""
    colour = GREEN if right else RED
    cv2.rectangle(sheet, (left - 2, top - 2), (left + CELL + 1, top + CELL + 1), colour, 3 if right else 1, cv2.LINE_AA)
    y = top + CELL + 11
    if right:
        tick = np.array([[left + 2, y], [left + 6, y + 4], [left + 14, y - 6]])
        cv2.polylines(sheet, [tick], False, colour, 2, cv2.LINE_AA)
    else:
        cv2.line(sheet, (left + 3, y - 5), (left + 13, y + 5), colour, 2, cv2.LINE_AA)
        cv2.line(sheet, (left + 13, y - 5), (left + 3, y + 5), colour, 2, cv2.LINE_AA)
    _write(sheet, f"{score:.2f}", (left + 22, y + 5))


def _write(sheet: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
