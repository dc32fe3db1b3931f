"""Where the reference values are: ../shared/golden beside the project; tests skip where it is absent."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    path = Path(__file__).parents[3] / "shared" / "golden"
    if not path.is_dir():
        pytest.skip(f"reference values are not at {path}")
    return path
