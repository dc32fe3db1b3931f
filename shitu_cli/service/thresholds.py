"""The threshold that a server uses: the one that was given, or what the newest evaluation of its model measured."""

from __future__ import annotations

import os
from pathlib import Path

from shitu_cli.features.extractor import Extractor
from shitu_cli.report.evaluation import PLAIN, WITH_OPTIONS, suggested_threshold, what_it_does
from shitu_cli.service.live import Threshold
from shitu_cli.service.views import View

NONE = Threshold(None, "none")


class MeasuredThreshold:
    """Looks the threshold up in the reports of a workspace; they are read again only where they have changed."""

    def __init__(self, reports: Path) -> None:
        self._reports = reports
        self._seen: tuple[object, ...] = ()
        self._threshold = NONE

    def __call__(self, extractor: Extractor, view: View) -> Threshold:
        """Return what was measured for this very model; none for a binary index, whose scores are no cosines."""
        kind = view.manifest.kind if view.manifest is not None else "flat"
        seen = (extractor.fingerprint, kind, view.label_count(), *map(self._state, (PLAIN, WITH_OPTIONS)))
        if seen != self._seen:
            self._threshold, self._seen = self._look_up(extractor.fingerprint, kind, view.label_count()), seen
        return self._threshold

    def _look_up(self, fingerprint: str, kind: str, labels: int | None) -> Threshold:
        suggestion = None if kind == "binary" else suggested_threshold(self._reports, fingerprint, labels)
        if suggestion is None:
            return NONE
        return Threshold(float(suggestion["threshold"]), "measured", tuple(what_it_does(suggestion)))

    def _state(self, name: str) -> tuple[int, int] | None:
        try:
            state = os.stat(self._reports / f"{name}.json")
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns
