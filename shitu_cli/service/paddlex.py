"""The addresses of PaddleX's PP-ShiTuV2 serving, answered in its format, so that its clients work unchanged.

`/shitu-index-build` makes its own index under a new key; without a key, or with the key `default`, the requests
mean the index that this server was started with. Every box of the detector is an object; without one, or if it
finds nothing, the whole image is. Addresses of images are refused: a server that fetches them can be sent anywhere.
"""

from __future__ import annotations

import base64
import re
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from shitu_cli.data.header import read_header
from shitu_cli.data.images import Box, decode_image
from shitu_cli.features.detection.areas import Cut
from shitu_cli.report.page import draw_boxes
from shitu_cli.service.batching import Area, AreaChoice, Image, Reply
from shitu_cli.service.desk import Desk
from shitu_cli.service.gallery import FileGallery, Gallery, Removal
from shitu_cli.service.live import State, fits, needed
from shitu_cli.service.refusals import CONFLICT, NOT_FOUND, TOO_MANY, UNPROCESSABLE, Refusal
from shitu_cli.service.schemas import MOST, JSONReply, Label
from shitu_cli.service.uploads import check_images, decode_base64
from shitu_cli.service.views import count_of

BUILD, ADD, REMOVE, INFER = "/shitu-index-build", "/shitu-index-add", "/shitu-index-remove", "/shitu-infer"
ADDRESSES = (BUILD, ADD, REMOVE, INFER)
TAGS: list[str | Enum] = ["PaddleX"]
DEFAULT = "default"  # the key of the index that the server was started with
THRESHOLD, TOP = 0.5, 5  # PaddleX's own, where neither the request nor an evaluation says another
MOST_INDEXES, MOST_OPEN = 1000, 16
WHOLE = AreaChoice(Cut.WHOLE)  # what is added is an image of one thing already, as in PaddleX
_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")  # its clients send logId and whatever else


class Pair(_Body):
    image: str
    label: Label


class BuildRequest(_Body):
    imageLabelPairs: list[Pair]


class AddRequest(BuildRequest):
    indexKey: str


class RemoveRequest(_Body):
    ids: list[int]
    indexKey: str


class InferRequest(_Body):
    image: str
    indexKey: str | None = None
    detThreshold: float | None = Field(default=None, ge=0, le=1)
    recThreshold: float | None = None
    hammingRadius: float | None = None
    topk: int | None = Field(default=None, ge=1, le=MOST)
    visualize: bool | None = None


class Indexes:
    """The indexes that clients have built, each a directory named after its key; the last used ones stay open."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.folder, self._desk = folder, desk
        self._lock = threading.Lock()
        self._open: OrderedDict[str, FileGallery] = OrderedDict()

    def new(self) -> tuple[str, FileGallery]:
        """Return a new key and the index to build under it."""
        if self.folder.is_dir() and sum(1 for _ in self.folder.iterdir()) >= MOST_INDEXES:
            raise Refusal(TOO_MANY, f"{MOST_INDEXES} indexes have been built", hint="delete those that nobody uses")
        key = str(uuid.uuid4())
        return key, self._opened(key, create=True)

    def get(self, key: str | None) -> Gallery | None:
        """Return the index of a key, None for the server's own; Refusal if there is none."""
        if key in (None, "", DEFAULT):
            return None
        if not _KEY.fullmatch(str(key)) or not (self.folder / str(key)).is_dir():
            raise Refusal(NOT_FOUND, "no index has this key", hint=f"{BUILD} returns a key")
        return self._opened(str(key))

    def discard(self, key: str) -> None:
        """Forget an index that could not be built."""
        with self._lock:
            self._open.pop(key, None)
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def _opened(self, key: str, *, create: bool = False) -> FileGallery:
        with self._lock:
            waiting = self._desk.settings.limits.changes
            gallery = self._open.pop(key, None) or FileGallery(self.folder / key, create=create, most_waiting=waiting)
            self._open[key] = gallery
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return gallery


def add_routes(app: FastAPI, desk: Desk) -> None:
    """Add the four addresses to the application."""
    indexes = Indexes(desk.settings.indexes, desk)

    @app.post(BUILD, operation_id="buildIndex", tags=TAGS)
    async def build(given: BuildRequest) -> JSONReply:
        """Build an index of these images under a new key."""
        desk.check_writable()
        images, labels = _pairs(given, desk)
        key, gallery = indexes.new()
        try:
            view, _ = await desk.add(images, labels, gallery, choice=WHOLE)
        except BaseException:
            indexes.discard(key)
            raise
        return _answer({"indexKey": key, "imageCount": count_of(view)})

    @app.post(ADD, operation_id="addImagesToIndex", tags=TAGS)
    async def add(given: AddRequest) -> JSONReply:
        """Add images to the index of a key."""
        images, labels = _pairs(given, desk)
        view, _ = await desk.add(images, labels, indexes.get(given.indexKey), choice=WHOLE)
        return _answer({"imageCount": count_of(view)})

    @app.post(REMOVE, operation_id="removeImagesFromIndex", tags=TAGS)
    async def remove(given: RemoveRequest) -> JSONReply:
        """Remove images by id; unknown ids are skipped, as in PaddleX."""
        possible = [id for id in given.ids if 0 <= id < 1 << 63]
        view, _ = await desk.remove(Removal(possible, missing_ok=True), indexes.get(given.indexKey))
        return _answer({"imageCount": count_of(view)})

    @app.post(INFER, operation_id="infer", tags=TAGS)
    async def infer(given: InferRequest) -> JSONReply:
        """Say what an image shows: labels and scores of its nearest neighbours, none if they are too far."""
        image = Image(decode_base64(given.image, "image"), "image")
        check_images([image], desk.settings.limits)
        gallery, top = indexes.get(given.indexKey), given.topk or TOP
        choice = AreaChoice(Cut.OBJECTS, given.detThreshold)
        reply = await desk.reply([image], top if gallery is None else None, choice)
        width, height = await desk.read(lambda: _size(image.data))
        matches = await desk.read(lambda: _matches(reply, gallery, top))
        limit = given.recThreshold if given.recThreshold is not None else _threshold(reply.state)
        objects = [
            _object(area, near if near and near[0]["score"] >= limit else [], width, height)
            for area, near in zip(reply.images[0], matches, strict=True)
        ]
        objects = objects[:-1] or objects  # the last one is the whole image
        boxes = [one["bbox"] for one in objects]
        drawn = {"image": await desk.read(lambda: _drawn(image.data, boxes))} if given.visualize else {}
        return _answer({"detectedObjects": objects, **drawn})


def healthy() -> dict[str, Any]:
    """Return what PaddleX's serving says of itself when it runs."""
    return {"logId": str(uuid.uuid4()), "errorCode": 0, "errorMsg": "Healthy"}


def refusal_body(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal in PaddleX's format: its code is the HTTP status."""
    error = refusal.body()["error"]
    text = "; ".join([error["message"], *error["details"], *([error["hint"]] if error["hint"] else [])])
    return {"logId": str(uuid.uuid4()), "errorCode": refusal.status, "errorMsg": text}


def _answer(result: dict[str, Any]) -> JSONReply:
    return JSONReply({"logId": str(uuid.uuid4()), "errorCode": 0, "errorMsg": "Success", "result": result})


def _pairs(given: BuildRequest, desk: Desk) -> tuple[list[Image], list[str]]:
    if not given.imageLabelPairs:
        raise Refusal(UNPROCESSABLE, "imageLabelPairs is empty")
    names = [f"imageLabelPairs[{number}].image" for number in range(len(given.imageLabelPairs))]
    images = [
        Image(decode_base64(pair.image, name), name) for pair, name in zip(given.imageLabelPairs, names, strict=True)
    ]
    check_images(images, desk.settings.limits)
    return images, [pair.label for pair in given.imageLabelPairs]


def _matches(reply: Reply, gallery: Gallery | None, top: int) -> list[list[dict[str, Any]]]:
    """Return labels and scores of the nearest neighbours of each area of the image, best first."""
    areas = reply.images[0]
    if gallery is None:
        neighbours = [area.answer.neighbours if area.answer is not None else [] for area in areas]
    else:
        view = gallery.latest()
        if not fits(view, reply.state.extractor):
            raise Refusal(
                CONFLICT,
                "this index was built with another model than this server uses",
                hint=f"build it again: {BUILD}",
            )
        nearest = view.search(np.stack([area.feature for area in areas]), needed(top))
        neighbours = [matches[:top] for matches in nearest]
    return [[{"label": match.label, "score": round(match.score, 6)} for match in near] for near in neighbours]


def _object(area: Area, near: list[dict[str, Any]], width: int, height: int) -> dict[str, Any]:
    """Return an area as PaddleX does; the whole image has the score 0."""
    detection = area.detection
    if detection is None or detection.score is None:
        return {"bbox": [0.0, 0.0, float(width), float(height)], "recResults": near, "score": 0.0}
    return {"bbox": list(detection.box), "recResults": near, "score": round(detection.score, 6)}


def _threshold(state: State) -> float:
    return THRESHOLD if state.threshold.value is None else state.threshold.value


def _size(data: bytes) -> tuple[int, int]:
    """Return width and height of an upright image; it is decoded only if its header does not say them."""
    width, height = read_header(data).upright
    if width and height:
        return width, height
    height, width = decode_image(data).shape[:2]
    return width, height


def _drawn(data: bytes, boxes: Sequence[Box]) -> str:
    """Return an image with boxes as a JPEG in base64."""
    canvas = draw_boxes(decode_image(data), boxes)[:, :, ::-1]
    return base64.b64encode(cv2.imencode(".jpg", np.ascontiguousarray(canvas))[1].tobytes()).decode()
