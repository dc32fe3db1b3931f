"""What the service does, independent of HTTP: answers, features, additions, removals, lists."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from shitu_cli.data.images import split_box, with_box
from shitu_cli.errors import DataError, ShituError
from shitu_cli.features.detection.areas import Cut
from shitu_cli.features.detection.boxes import Detection
from shitu_cli.features.detection.detector import Detector
from shitu_cli.index.store import FeatureTable, Item
from shitu_cli.reporting import visible
from shitu_cli.runtime.threads import image_threads
from shitu_cli.service.batching import AreaChoice, Batcher, Image, Reply
from shitu_cli.service.corrections import contradicting
from shitu_cli.service.gallery import Addition, Changed, Gallery, Removal
from shitu_cli.service.live import Live, State
from shitu_cli.service.metrics import Metrics
from shitu_cli.service.photos import Photos, thumbnail
from shitu_cli.service.projection import GalleryMap, gallery_map
from shitu_cli.service.refusals import FORBIDDEN, NOT_FOUND, UNAVAILABLE, Refusal
from shitu_cli.service.settings import Settings
from shitu_cli.service.views import View, count_of

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of the items or labels that match, and how many do."""

    total: int
    rows: list[T]


class Desk:
    """Answers requests with one model, one index and one queue; safe for any number of requests at once."""

    def __init__(
        self,
        live: Live,
        settings: Settings,
        metrics: Metrics,
        stored: Callable[[str], str] = str,
        detector: Detector | None = None,
    ) -> None:
        self.live, self.settings, self.metrics, self.detector = live, settings, metrics, detector
        self.photos, self._stored = Photos(settings.photos), stored
        self.batcher = Batcher(live, metrics, most_waiting=settings.limits.waiting, detector=detector)
        # Threads that may block: changes wait for the disk, thumbnails for a file.
        self._changing = ThreadPoolExecutor(settings.limits.changes + 2, thread_name_prefix="shitu-change")
        self._reading = image_threads(2, "read")
        self._filing = threading.Lock()  # of photos that are added and removed at the same time
        self._map: tuple[View, GalleryMap | None] | None = None
        metrics.gauge("shitu_index_items", "Items in the index.", lambda: float(self.count()))
        metrics.gauge("shitu_waiting_images", "Images that wait for the network.", lambda: float(self.batcher.waiting))
        live.start()

    @property
    def state(self) -> State:
        return self.live.state

    def close(self) -> None:
        """Finish what has begun; nothing that was acknowledged is lost either way."""
        self.batcher.close()
        self._changing.shutdown(wait=True)
        self._reading.shutdown(wait=False, cancel_futures=True)
        self.live.close()

    async def reply(self, images: Sequence[Image], top: int | None = None, choice: AreaChoice = AreaChoice()) -> Reply:
        """Return the features of images and, with `top`, what they show; `choice` says which areas of them count."""
        future = asyncio.wrap_future(self.batcher.submit(images, top, choice))
        try:
            reply = await asyncio.wait_for(future, self.settings.limits.seconds)
        except asyncio.TimeoutError:
            self.metrics.refused("time")
            raise Refusal(UNAVAILABLE, "the network is too busy to answer in time", retry_after=5) from None
        if reply.answers:
            recognised = sum(answer.label is not None for answer in reply.answers)
            self.metrics.judged(recognised, len(reply.answers) - recognised)
        return reply

    async def add(
        self,
        images: Sequence[Image],
        labels: Sequence[str],
        gallery: Gallery | None = None,
        *,
        choice: AreaChoice = AreaChoice(Cut.BODY),
        correct: bool = False,
    ) -> tuple[View, Changed]:
        """Add images under these labels; durable on return. `gallery`: another index, whose photos are not kept.

        `choice` says which area of each image is added. With `correct`, items of the same images under other labels
        leave the index in the same step.
        """
        self.check_writable()
        reply = await self.reply(images, choice=choice)
        extractor, features = reply.state.extractor, reply.features

        def change() -> tuple[View, Changed]:
            addition = Addition(
                FeatureTable(features, labels, [""] * len(images)), extractor.fingerprint, str(extractor.path)
            )
            if gallery is not None:
                return self._change(gallery, addition)
            try:
                areas = [areas[0].detection for areas in reply.images]
                paths = [self._keep(image, area) for image, area in zip(images, areas, strict=True)]
                addition = replace(addition, table=addition.table._replace(paths=paths))
                if correct:
                    wrong = contradicting(self.live.state.view, features, labels, images, self._file)
                    addition = replace(addition, instead_of=wrong)
                view, changed = self._change(None, addition)
            except Exception:
                with contextlib.suppress(ShituError):  # where the index cannot be read either, the photos stay
                    self._forget({self.photos.place(image.data) for image in images})
                raise
            self._forget(self._files(changed.removed))
            self._keep_again(images, changed.items)
            return view, changed

        view, changed = await self._in(self._changing, change)
        self.metrics.changed("add", len(changed.items))
        return view, changed

    async def remove(self, removal: Removal, gallery: Gallery | None = None) -> tuple[View, Changed]:
        """Remove items; durable on return. Photos that were added here are deleted."""
        self.check_writable()

        def change() -> tuple[View, Changed]:
            view, changed = self._change(gallery, removal)
            if gallery is None:
                self._forget(self._files(changed.items))
            return view, changed

        view, changed = await self._in(self._changing, change)
        self.metrics.changed("remove", len(changed.items))
        return view, changed

    def check_writable(self) -> None:
        """Raise a Refusal if this server changes nothing."""
        if self.settings.read_only:
            raise Refusal(FORBIDDEN, "this server only reads its index (--read-only)")

    def count(self) -> int:
        """Return how many items the index has, as it was last seen."""
        return count_of(self.state.view)

    async def items(self, label: str | None, text: str, offset: int, limit: int) -> Page[Item]:
        """Return the items of a label, or whose label or path contains a text, in order of id."""
        text = text.casefold()

        def read() -> Page[Item]:
            rows = [
                item
                for item in self.state.view.items()
                if (label is None or item.label == label)
                and (text in item.label.casefold() or text in item.path.casefold())
            ]
            return Page(len(rows), rows[offset : offset + limit])

        return await self.read(read)

    async def labels(self, text: str, offset: int, limit: int) -> Page[tuple[str, int]]:
        """Return labels that contain a text with their number of items, in alphabetical order."""
        text = text.casefold()

        def read() -> Page[tuple[str, int]]:
            counts = self.state.view.labels()
            rows = sorted((pair for pair in counts.items() if text in pair[0].casefold()), key=lambda pair: pair[0])
            return Page(len(rows), rows[offset : offset + limit])

        return await self.read(read)

    async def image(self, id: int, size: int) -> bytes:
        """Return the image of an item as a JPEG of at most `size` pixels a side; Refusal if there is none."""

        def read() -> bytes:
            item = self.state.view.item(id)
            if item is None or not item.path:
                raise Refusal(NOT_FOUND, f"there is no item {id} with an image")
            try:
                return thumbnail(self.settings.root / item.path, size, self.settings.limits.pixels)
            except DataError:
                raise Refusal(NOT_FOUND, f"the image of item {id} is not where the index says") from None

        return await self.read(read)

    async def map(self) -> GalleryMap | None:
        """Return the map of the index as it is now; computed once for each state of it."""

        def read() -> GalleryMap | None:
            view = self.state.view
            if self._map is None or self._map[0] is not view:
                self._map = view, gallery_map(view)
            return self._map[1]

        return await self.read(read)

    async def read(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, which may wait for a file or decode an image."""
        return await self._in(self._reading, work)

    def _change(self, gallery: Gallery | None, change: Addition | Removal) -> tuple[View, Changed]:
        view, changed = (gallery or self.live.gallery).change(change)
        if gallery is None:
            self.live.adopt()  # the client's next search already finds the change
        return view, changed

    def _forget(self, files: Set[Path]) -> None:
        """Delete photos that were kept here, except those that the index holds, perhaps since an addition just now."""
        own = {file for file in files if self.photos.holds(file)}
        if own:
            with self._filing:
                names = {file.name for file in self._files(self.live.gallery.latest().items())}
                self.photos.forget(file for file in own if file.name not in names)

    def _keep_again(self, images: Sequence[Image], items: Sequence[Item]) -> None:
        """Write the photos of added items that a removal has deleted meanwhile, if these items are still there."""
        with self._filing:
            view = self.live.gallery.latest()
            names = {self._file(item).name for item in items if view.item(item.id) is not None}
            for image in images:
                if self.photos.place(image.data).name in names:
                    self._keep(image)

    def _keep(self, image: Image, area: Detection | None = None) -> str:
        """Write a photo; return its path, or that of an area of it, as the index stores it."""
        path = visible(self._stored(str(self.photos.keep(image.data))))
        return with_box(path, None if area is None or area.is_whole else area.box)

    def _files(self, items: Iterable[Item]) -> set[Path]:
        return {self._file(item) for item in items if item.path}

    def _file(self, item: Item) -> Path:
        """Return the file of an item, without the box that its path may name."""
        return self.settings.root / split_box(item.path)[0]

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
