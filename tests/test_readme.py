"""Every `shitu` command that README.md and the tutorial show, run in its order, in one directory."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli import __version__
from tests.command import SMALL, shitu

ROOT = Path(__file__).parents[1]
README, TUTORIAL = "README.md", "docs/tutorial.md"
# README's first two blocks install into fresh environments: continuous integration runs them word for word.
INSTALLS = 2


def blocks(document: str) -> list[str]:
    """The text of a document's `console` blocks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    """The `shitu` lines of the blocks that neither install nor need published weights, comments dropped."""
    used = blocks(document)[INSTALLS if document == README else 0 :]
    lines = [
        line.split("  #")[0].strip() for block in used if "--pretrained" not in block for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("shitu")]


def test_the_first_two_blocks_install_and_test() -> None:
    first, second = blocks(README)[:INSTALLS]
    assert first.count("\n") == second.count("\n") == 1
    assert first.rstrip().endswith("shitu demo")
    assert second.rstrip().endswith("-m pytest")


@pytest.mark.parametrize("document", [README, TUTORIAL])
def test_the_four_steps_are_shown(document: str) -> None:
    steps = {command.split()[1] for command in commands(document) if " " in command}
    assert {"prepare", "train", "evaluate", "export", "index", "search"} <= steps


@pytest.mark.parametrize(
    "document", [README, "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_links_lead_somewhere(document: str) -> None:
    file = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)|src=\"([^\":]+)\"", file.read_text(encoding="utf-8"))
    assert [link for pair in links for link in pair if link and not (file.parent / link).exists()] == []


def test_the_changelog_is_that_of_this_version() -> None:
    newest = re.search(
        r"^## \[(.*?)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest is not None and newest[1] == __version__


@pytest.mark.slow
@pytest.mark.parametrize(("document", "folder"), [(README, "data"), (TUTORIAL, "photos")])
def test_every_command_runs(
    document: str, folder: str, tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]
) -> None:
    images = make_images(tmp_path / folder, classes=8, per_class=8)
    shutil.copy(images["class_000"][0], tmp_path / "photo.jpg")
    (tmp_path / folder / "class_000").rename(tmp_path / folder / "Kiwi")
    for command in commands(document):
        words = shlex.split(command)[1:]
        shitu(*words, *([*SMALL, "--epochs", "1"] if words[:1] == ["train"] else []), cwd=tmp_path)
