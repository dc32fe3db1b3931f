"""What the machine refuses is no damage, and its hint fits the refusal."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features.backends import damaged
from shitu_cli.features.feature_file import disk_errors_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("pthread_setaffinity_np failed: pthread_create"), EnvironmentProblem),
        (RuntimeError("Resource temporarily unavailable"), EnvironmentProblem),
        (MemoryError(), EnvironmentProblem),
        (RuntimeError("Protobuf parsing failed"), DataError),
    ],
)
def test_a_limit_is_no_damaged_model(error: Exception, kind: type) -> None:
    assert type(damaged(Path("inference.onnx"), error)) is kind


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "permissions"),
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "written"),
    ],
)
def test_hints_fit_the_refusal(number: int, says: str) -> None:
    with pytest.raises(EnvironmentProblem) as caught, disk_errors_of(Path("features.npy")):
        raise OSError(number, "refused")
    text = str(caught.value.hint)
    assert says in text and text.endswith("the same command continues from there")
    assert ("free some space" in text) == (number == errno.ENOSPC)
