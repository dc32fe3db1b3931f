"""The threshold that a server uses: the one that was given, or what evaluation measured of its model."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.features.extractor import Extractor
from shitu_cli.files import file_state
from shitu_cli.index.store import IndexManifest
from shitu_cli.report.evaluation import PLAIN, WITH_OPTIONS
from shitu_cli.service.views import View
from shitu_cli.steps.measured_threshold import Threshold, measured_threshold

NONE = Threshold()


class MeasuredThreshold:
    """Looks the threshold up in the reports of a workspace, else in the index; again only if either has changed."""

    def __init__(self, reports: Path) -> None:
        self._reports = reports
        self._seen: tuple[object, ...] = ()
        self._threshold = NONE

    def __call__(self, extractor: Extractor, view: View) -> Threshold:
        """Return what was measured for exactly this model; none for a binary index, whose scores are not cosines."""
        manifest, labels = view.manifest, view.label_count()
        reports = (self._reports / f"{name}.json" for name in (PLAIN, WITH_OPTIONS))
        seen = (extractor.fingerprint, manifest, labels, *map(file_state, reports))
        if seen != self._seen:
            self._threshold, self._seen = self._look_up(extractor.fingerprint, manifest, labels), seen
        return self._threshold

    def _look_up(self, fingerprint: str, manifest: IndexManifest | None, labels: int | None) -> Threshold:
        if manifest is not None and manifest.kind == "binary":
            return NONE
        return measured_threshold(self._reports, fingerprint, manifest, labels) or NONE
