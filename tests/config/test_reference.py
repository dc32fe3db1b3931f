"""docs/config.md is what the parts say, and every key has a meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.config.kinds import fields_of
from shitu_cli.config.parts import KINDS, Part
from shitu_cli.config.reference import reference

PARTS = sorted({part for kind in KINDS.values() for part in kind.parts.values()}, key=lambda part: part.__qualname__)


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "config.md"
    assert page.read_text(encoding="utf-8") == reference(), "python -m shitu_cli.config.reference > docs/config.md"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__qualname__)
def test_every_key_has_a_meaning_and_what_is_built_exists(part: type[Part]) -> None:
    assert [name for name, field in fields_of(part).items() if not field.meaning] == []
    assert part.__doc__
    module, _, name = part.built_by.partition(":")
    assert hasattr(__import__(module, fromlist=[name]), name)
