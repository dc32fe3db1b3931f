"""The door for programs: docs/python.md runs as it stands, and loads no command line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shitu_cli

DOCUMENT = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.mark.slow
def test_what_the_document_shows_runs(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "photos", classes=4, per_class=6)
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)
    code = "\n".join(
        [
            *blocks,
            "import sys",
            "assert not [name for name in sys.modules if name.startswith('shitu_cli.cli')]",
            "assert open_index('work/index').manifest().count == 24",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Global.epochz: unknown key" in done.stdout
    assert (tmp_path / "work/reports/evaluate.html").is_file() and (tmp_path / "work/inference/manifest.json").is_file()


@pytest.mark.parametrize("name", shitu_cli.__all__)
def test_every_name_is_there_and_explained(name: str) -> None:
    value = getattr(shitu_cli, name)
    assert name == "__version__" or (value.__doc__ and name in dir(shitu_cli))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = shitu_cli.nothing
