"""Images of many requests through one network, without waiting for each other.

Some engines compute images side by side: there, the thread that decodes an image also computes and answers it, so that
no image waits for a batch. Other engines take whatever was decoded while they were busy as one batch, and so does an
index in which one search for many vectors is faster than many searches. A single request on an idle server is answered
at once either way.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shitu_cli.data.images import Box
from shitu_cli.errors import DataError, ShituError
from shitu_cli.features.detection.areas import Areas, Cut, compute_alike, read_areas
from shitu_cli.features.detection.boxes import Detection
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Cropped
from shitu_cli.features.unit_length import have_direction
from shitu_cli.index.objects import combined
from shitu_cli.index.verdict import Answer
from shitu_cli.runtime.threads import compute_threads, image_threads
from shitu_cli.service.live import Live, State, needed
from shitu_cli.service.metrics import Metrics
from shitu_cli.service.refusals import TOO_MANY, UNAVAILABLE, Refusal, refusal_of, unusable

BATCH = 32  # images that go through the network together at most
NO_FEATURE = "the network has no feature for it, only zeros or values that are not finite"


class Image(NamedTuple):
    """An encoded image and what to call it in messages."""

    data: bytes
    name: str


class AreaChoice(NamedTuple):
    """Which areas of an image count, where there is a detector, and how sure it must be (None: as it was started).

    `box`: this part of the image alone, detector or not.
    """

    cut: Cut = Cut.OBJECTS
    threshold: float | None = None
    box: Box | None = None


class Area(NamedTuple):
    """What one area of an image has come to: its feature float32 [D] of unit length, its answer if one was wanted."""

    detection: Detection | None
    feature: np.ndarray
    answer: Answer | None


class Reply(NamedTuple):
    """The areas of each image, the answers to the images where they were asked for, and what computed both."""

    images: list[list[Area]]
    answers: list[Answer]
    state: State

    @property
    def features(self) -> np.ndarray:
        """The features float32 [N, D] of the first area of each image: all of it, or its surest box."""
        return np.stack([areas[0].feature for areas in self.images])


@dataclass
class _Request:
    """The images of one request on their way; the last that is done settles it. `top` None: features only."""

    state: State
    images: Sequence[Image]
    top: int | None
    choice: AreaChoice
    reply: Future[Reply] = field(default_factory=Future)
    parts: dict[int, tuple[list[Area], State] | str] = field(default_factory=dict)


class _Work(NamedTuple):
    """An image that is decoded; `features` of its areas where they are computed already."""

    request: _Request
    number: int
    areas: Areas
    features: list[np.ndarray] | None = None


class Batcher:
    """Takes the images of requests from any number of threads.

    `most_waiting` images may be on their way; more are refused, so that nobody waits longer than it takes to compute
    so many.
    """

    def __init__(
        self,
        live: Live,
        metrics: Metrics,
        *,
        most_waiting: int,
        detector: Detector | None = None,
        batch_size: int = BATCH,
    ) -> None:
        self._live, self._metrics, self._detector = live, metrics, detector
        self._most_waiting, self._batch_size = most_waiting, batch_size
        self._lock = threading.Lock()  # of `waiting` and of what requests gather
        self.waiting = 0
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()  # for the thread that computes batches
        # There are more workers than cores; of what they decode, large photos would fill the memory.
        self._decoding = threading.Semaphore(compute_threads())
        self._workers = image_threads(count_workers(live.state.extractor.engine.side_by_side), "image")
        self._thread = threading.Thread(target=self._run, name="shitu-network", daemon=True)
        self._thread.start()

    def submit(
        self, images: Sequence[Image], top: int | None = None, choice: AreaChoice = AreaChoice()
    ) -> Future[Reply]:
        """Return the reply to come; its errors are Refusals. Raises Refusal if too many images wait already."""
        request = _Request(self._live.state, images, top, choice)
        with self._lock:
            if self.waiting + len(images) > self._most_waiting:
                self._metrics.refused("queue")
                raise Refusal(TOO_MANY, "too many images wait already", hint="try again shortly", retry_after=1)
            self.waiting += len(images)
        try:
            for number in range(len(images)):
                self._workers.submit(self._begin, request, number)
        except RuntimeError:
            raise Refusal(UNAVAILABLE, "the server is stopping", retry_after=5) from None
        return request.reply

    def close(self) -> None:
        """Finish what has been taken, then stop."""
        self._workers.shutdown(wait=True)
        self._queue.put(None)
        self._thread.join()

    def _begin(self, request: _Request, number: int) -> None:
        """Decode an image; compute it here where that keeps nobody waiting, else leave it to the batches."""
        if request.reply.done():  # it has failed, or nobody waits for it any more
            self._settle(request, number, "not looked at")
            return
        try:
            with self._decoding:
                areas = self._read(request, number)
            work = _Work(request, number, areas)
        except DataError as error:
            self._settle(request, number, error.message.removeprefix("image bytes: "))
            return
        except Exception as error:
            self._fail([request], error)
            return
        try:
            if not request.state.extractor.engine.side_by_side:
                self._queue.put(work)
                return
            work = self._computed([work])[0]
            if request.top is not None and not self._state_for(request).view.is_quick:
                self._queue.put(work)
                return
            self._search_and_settle([work])
        except Exception as error:
            self._fail([request], error)

    def _read(self, request: _Request, number: int) -> Areas:
        extractor, data, choice = request.state.extractor, request.images[number].data, request.choice
        if choice.box is not None:
            return Areas([Detection(choice.box, 1.0)], [extractor.read(Cropped(data, choice.box))])
        return read_areas(extractor, self._detector, data, choice.cut, threshold=choice.threshold)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, is_last = [first], False
            while len(batch) < self._batch_size and not is_last:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                is_last = following is None
                if following is not None:
                    batch.append(following)
            for group in _of_one_model(batch):
                try:
                    self._search_and_settle(self._computed(group))
                except Exception as error:
                    self._fail([one.request for one in group], error)
            if is_last:
                return

    def _computed(self, group: list[_Work]) -> list[_Work]:
        """Return images of one model with the features of their areas."""
        missing = [one for one in group if one.features is None]
        inputs = [area for one in missing for area in one.areas.inputs]
        if not inputs:
            return group
        begun = time.monotonic()
        rows = iter(compute_alike(group[0].request.state.extractor, inputs, self._batch_size))
        self._metrics.computed(len(inputs), time.monotonic() - begun)
        return [
            one if one.features is not None else one._replace(features=[next(rows) for _ in one.areas.inputs])
            for one in group
        ]

    def _search_and_settle(self, group: list[_Work]) -> None:
        """Search for what asks for answers, all in one state of the index, and note what became of each image."""
        state = self._state_for(group[0].request)
        rows = [(one, feature) for one in group for feature in one.features or ()]
        tops = [one.request.top if _is_usable(feature) else None for one, feature in rows]
        answers = iter(self._answers(state, [feature for _, feature in rows], tops))
        for one in group:
            areas = [
                Area(detection, feature, next(answers))
                for detection, feature in zip(one.areas.detections, one.features or (), strict=True)
            ]
            is_good = all(_is_usable(area.feature) for area in areas)
            self._settle(one.request, one.number, (areas, state) if is_good else NO_FEATURE)

    def _answers(self, state: State, features: Sequence[np.ndarray], tops: Sequence[int | None]) -> list[Answer | None]:
        """Return an answer for each feature with a `top`, by one search."""
        asking = [number for number, top in enumerate(tops) if top is not None]
        answers: list[Answer | None] = [None] * len(features)
        if asking:
            begun = time.monotonic()
            matches = state.view.search(
                np.stack([features[n] for n in asking]), needed(max(tops[n] or 0 for n in asking))
            )
            self._metrics.searched(len(asking), time.monotonic() - begun)
            for number, nearest in zip(asking, matches, strict=True):
                answers[number] = state.answer(nearest, tops[number] or 0)
        return answers

    def _state_for(self, request: _Request) -> State:
        """Return the newest view of the request's model, so that a client finds what was added before it asked."""
        now = self._live.state
        return now if now.extractor is request.state.extractor else request.state

    def _settle(self, request: _Request, number: int, part: tuple[list[Area], State] | str) -> None:
        """Note what became of one image (a text: why it has no feature), and reply when all are done."""
        with self._lock:
            self.waiting -= 1
            request.parts[number] = part
            is_over = len(request.parts) == len(request.images)
        if is_over:
            _reply(request)

    def _fail(self, requests: Sequence[_Request], error: Exception) -> None:
        """Note an error that concerns every image of a batch."""
        for request in requests:
            with self._lock:
                self.waiting -= 1
            with contextlib.suppress(InvalidStateError):  # failed already, or nobody waits for it any more
                request.reply.set_exception(refusal_of(error) if isinstance(error, ShituError) else error)


def _reply(request: _Request) -> None:
    """Settle a request whose images are all done."""
    parts = [request.parts[number] for number in range(len(request.images))]
    problems = [f"{request.images[n].name}: {part}" for n, part in enumerate(parts) if isinstance(part, str)]
    good = [part for part in parts if not isinstance(part, str)]
    with contextlib.suppress(InvalidStateError):  # failed already, or nobody waits for it any more
        if problems:
            request.reply.set_exception(unusable(problems, len(parts)))
        else:
            images = [areas for areas, _ in good]
            answers = [] if request.top is None else [_combined(areas) for areas in images]
            request.reply.set_result(Reply(images, answers, good[-1][1]))


def _is_usable(feature: np.ndarray) -> bool:
    return bool(have_direction(feature[None])[0])


def _combined(areas: Sequence[Area]) -> Answer:
    answers = [area.answer for area in areas if area.answer is not None]
    return combined(answers, [area.detection for area in areas if area.answer is not None])


def count_workers(side_by_side: bool) -> int:
    """Return how many threads take images from their bytes on; three for each core if the engine computes side by side.

    One image is computed, one is ready behind it, and one is decoded or answered meanwhile. With fewer, engines that
    compute on threads of their own wait for the next image. For other engines, these threads only decode.
    """
    return compute_threads() * (3 if side_by_side else 1)


def _of_one_model(batch: list[_Work]) -> list[list[_Work]]:
    """Return the images in groups of one model each."""
    groups: defaultdict[int, list[_Work]] = defaultdict(list)
    for one in batch:
        groups[id(one.request.state.extractor)].append(one)
    return list(groups.values())
