"""The model, the index and the threshold in use, replaced together when `export`, `index build` or `evaluate` ran.

A new model is opened while the old one serves, and takes over only when the index was built with it: until then the
previous pair keeps answering. No request waits for either.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from shitu_cli.errors import ShituError
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.manifest import MANIFEST
from shitu_cli.files import file_state
from shitu_cli.index.store import Match, of_another_model
from shitu_cli.index.verdict import VOTERS, Answer, judge
from shitu_cli.service.gallery import Gallery
from shitu_cli.service.views import View
from shitu_cli.steps.measured_threshold import Threshold

INTERVAL = 1.0  # seconds between two looks at the files
log = logging.getLogger("shitu.serve")


@dataclass(frozen=True)
class State:
    """What answers a request: a model, the index built with it, and the threshold measured for both."""

    extractor: Extractor
    view: View
    threshold: Threshold

    def answer(self, matches: list[Match], top: int) -> Answer:
        """Return the verdict of these matches, which are ordered, best first, with the `top` nearest."""
        return Answer(judge(matches, self.threshold.value), matches[:top])


def needed(top: int) -> int:
    """Return how many matches to ask an index for, so that all voters are among them."""
    return max(top, VOTERS)


class Live:
    """Holds the state in use and follows the files that it comes from.

    `open_model` opens the model as its files are now, `threshold_of` returns the threshold for a model and an index.
    """

    def __init__(
        self,
        open_model: Callable[[], Extractor],
        gallery: Gallery,
        threshold_of: Callable[[Extractor, View], Threshold],
    ) -> None:
        self._open_model, self.gallery, self._threshold_of = open_model, gallery, threshold_of
        self._swapping, self._refreshing = threading.Lock(), threading.Lock()
        self.remark = ""  # why the files on the disk are not in use
        extractor, view = open_model(), gallery.latest()
        self._opened = extractor
        self._model_state = _files_of(extractor.path)
        if view.manifest is not None and not fits(view, extractor):
            raise of_another_model(view.manifest, gallery.place, extractor.path)
        self.state = State(extractor, view, self._threshold_of(extractor, view))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="shitu-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow the files."""
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(INTERVAL * 2)
        self.gallery.close()

    def adopt(self) -> None:
        """Answer from the newest view of the index from now on, if it belongs to the model that serves.

        It is looked up under the lock: of two changes at once, the view of the earlier must not come last.
        """
        with self._swapping:
            view = self.gallery.latest()
            if fits(view, self.state.extractor):
                threshold = self._threshold_of(self.state.extractor, view)
                self.state = replace(self.state, view=view, threshold=threshold)

    def refresh(self) -> None:
        """Look at the files once; take over what has changed and fits together."""
        with self._refreshing:
            newest = self._newest_model()
            self.gallery.latest()  # read here, where no change waits for it
            with self._swapping:
                view, current = self.gallery.latest(), self.state
                extractor = next((one for one in (newest, current.extractor) if fits(view, one)), None)
                if extractor is None:
                    self._remark(
                        f"{self.gallery.place} was built with another model than {newest.path}: until both fit, the "
                        "previous model and index keep answering"
                    )
                    return
                if extractor is not newest:
                    self._remark(
                        f"{newest.path} has changed, but {self.gallery.place} was built with the previous model, which "
                        "keeps answering until the index is built again (shitu index build)"
                    )
                else:
                    self.remark = ""
                threshold = self._threshold_of(extractor, view)
                self.state = State(extractor, view, threshold)
            if extractor is not current.extractor:
                log.info("now with the new model of %s", extractor.path)

    def _newest_model(self) -> Extractor:
        """Return the model as its files are now; opened again if they have changed."""
        state = _files_of(self._opened.path)
        if state != self._model_state:
            self._opened = self._open_model()
            self._model_state = state
        return self._opened

    def _remark(self, text: str) -> None:
        if text != self.remark:
            log.warning("%s", text)
        self.remark = text

    def _follow(self) -> None:
        while not self._ending.wait(INTERVAL):
            try:
                self.refresh()
            except ShituError as error:  # a file is being written, or was damaged: the previous state keeps serving
                self._remark(error.message)
            except (OSError, MemoryError) as error:  # tried again after the next interval
                self._remark(f"{type(error).__name__}: {error}")


def fits(view: View, extractor: Extractor) -> bool:
    """Return whether features of this model may be compared with those of the index."""
    manifest = view.manifest  # an index of another program says only the size of its vectors
    return manifest is None or (manifest.fits(extractor.fingerprint) and manifest.size == extractor.feature_size)


def _files_of(model: Path) -> tuple[tuple[int, ...], ...]:
    """Return what differs between two exports of a model, or between two checkpoints."""
    folder = model if model.is_dir() else model.parent
    files = (folder / MANIFEST, model, model.with_name(f"{model.name}.pdparams"))
    return tuple(map(file_state, files))
