"""Images of many requests through one network: they are decoded by several threads and computed in batches.

Nobody waits for a batch to fill. Whatever is decoded when the network gets free goes through it together, so that a
single request on an idle server is answered at once, and batches grow by themselves under load.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shitu_cli.errors import DataError, ShituError
from shitu_cli.index.verdict import Answer
from shitu_cli.runtime.threads import compute_threads
from shitu_cli.service.live import Live, State, needed
from shitu_cli.service.metrics import Metrics
from shitu_cli.service.refusals import TOO_MANY, UNAVAILABLE, UNPROCESSABLE, Refusal, refusal_of

BATCH = 32  # images that go through the network together at most


class Image(NamedTuple):
    """An encoded image and what to call it in messages."""

    data: bytes
    name: str


class Reply(NamedTuple):
    """Features float32 [N, D] of unit length, answers where they were asked for, and what computed both."""

    features: np.ndarray
    answers: list[Answer]
    state: State


class _Part(NamedTuple):
    """What one image has come to."""

    features: np.ndarray
    answer: Answer | None
    state: State


@dataclass
class _Request:
    """The images of one request on their way; the last that is done settles it. `top` None: features only."""

    state: State
    images: Sequence[Image]
    top: int | None
    reply: Future[Reply] = field(default_factory=Future)
    parts: dict[int, _Part | str] = field(default_factory=dict)


class _Decoded(NamedTuple):
    request: _Request
    number: int
    pixels: np.ndarray


class Batcher:
    """Takes the images of requests from any number of threads.

    `most_waiting` images may be on their way; more are refused, so that nobody waits longer than it takes to compute
    so many.
    """

    def __init__(self, live: Live, metrics: Metrics, *, most_waiting: int, batch_size: int = BATCH) -> None:
        self._live, self._metrics = live, metrics
        self._most_waiting, self._batch_size = most_waiting, batch_size
        self._lock = threading.Lock()  # of `waiting` and of what requests gather
        self.waiting = 0
        self._decoded: queue.SimpleQueue[_Decoded | None] = queue.SimpleQueue()
        self._decoders = ThreadPoolExecutor(compute_threads(), thread_name_prefix="shitu-decode")
        self._thread = threading.Thread(target=self._run, name="shitu-network", daemon=True)
        self._thread.start()

    def submit(self, images: Sequence[Image], top: int | None = None) -> Future[Reply]:
        """Return the reply to come; its errors are Refusals. Raises Refusal if too many images wait already."""
        request = _Request(self._live.state, images, top)
        with self._lock:
            if self.waiting + len(images) > self._most_waiting:
                self._metrics.refused("queue")
                raise Refusal(TOO_MANY, "too many images wait already", hint="try again shortly", retry_after=1)
            self.waiting += len(images)
        try:
            for number in range(len(images)):
                self._decoders.submit(self._decode, request, number)
        except RuntimeError:
            raise Refusal(UNAVAILABLE, "the server is stopping", retry_after=5) from None
        return request.reply

    def close(self) -> None:
        """Finish what has been taken, then stop."""
        self._decoders.shutdown(wait=True)
        self._decoded.put(None)
        self._thread.join()

    def _decode(self, request: _Request, number: int) -> None:
        try:
            pixels = request.state.extractor.read(request.images[number].data)
        except DataError as error:
            self._settle(request, number, error.message.removeprefix("image bytes: "))
        except Exception as error:
            self._fail([request], error)
        else:
            self._decoded.put(_Decoded(request, number, pixels))

    def _run(self) -> None:
        while (first := self._decoded.get()) is not None:
            batch, is_last = [first], False
            while len(batch) < self._batch_size and not is_last:
                try:
                    following = self._decoded.get_nowait()
                except queue.Empty:
                    break
                is_last = following is None
                if following is not None:
                    batch.append(following)
            for group in _alike(batch):
                self._compute(group)
            if is_last:
                return

    def _compute(self, group: list[_Decoded]) -> None:
        """Compute images of one model and one shape, and search for those whose requests ask for answers."""
        first = group[0].request.state
        try:
            begun = time.monotonic()
            features = first.extractor.compute(np.stack([one.pixels for one in group]))
            self._metrics.computed(len(group), time.monotonic() - begun)
            finite = np.isfinite(features).all(axis=1)
            # The newest view of this model, so that a client finds what was added before it asked.
            now = self._live.state
            state = now if now.extractor is first.extractor else first
            asking = [row for row, one in enumerate(group) if finite[row] and one.request.top is not None]
            answers = self._search(state, group, features, asking)
        except Exception as error:
            self._fail([one.request for one in group], error)
            return
        for row, one in enumerate(group):
            part = _Part(features=features[row], answer=answers.get(row), state=state)
            self._settle(one.request, one.number, part if finite[row] else "the network has no finite feature for it")

    def _search(self, state: State, group: list[_Decoded], features: np.ndarray, rows: list[int]) -> dict[int, Answer]:
        """Return the answers by row, all from one state of the index."""
        if not rows:
            return {}
        tops = {row: group[row].request.top or 0 for row in rows}
        begun = time.monotonic()
        matches = state.view.search(features[rows], needed(max(tops.values())))
        self._metrics.searched(len(rows), time.monotonic() - begun)
        return {row: state.answer(nearest, tops[row]) for row, nearest in zip(rows, matches, strict=True)}

    def _settle(self, request: _Request, number: int, part: _Part | str) -> None:
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
            count = f"{len(problems)} of {len(parts)} images" if len(parts) > 1 else "this image"
            request.reply.set_exception(Refusal(UNPROCESSABLE, f"{count} cannot be used", details=problems))
        else:
            features = np.stack([part.features for part in good])
            answers = [part.answer for part in good if part.answer is not None]
            request.reply.set_result(Reply(features, answers, good[-1].state))


def _alike(batch: list[_Decoded]) -> list[list[_Decoded]]:
    """Return the images in groups that one call of a network can take: of one model and one shape."""
    groups: defaultdict[tuple[object, ...], list[_Decoded]] = defaultdict(list)
    for one in batch:
        groups[id(one.request.state.extractor), one.pixels.shape, one.pixels.dtype].append(one)
    return list(groups.values())
