"""Benchmarks import names that exist: nothing runs them, so that a renamed function would break them unnoticed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def source(module: str) -> str:
    """The text of a module or of a package's __init__.py, "" where there is none."""
    base = ROOT / module.replace(".", "/")
    files = (base.with_suffix(".py"), base / "__init__.py")
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")


def exists(module: str, name: str) -> bool:
    word = rf"\b{re.escape(name)}\b"
    defined = rf"^(?:(?:async )?def |class |[\w, ]*){word}|^(?:from|import) .*{word}|^    {word},|\"{name}\""
    return bool(source(f"{module}.{name}") or re.search(defined, source(module), re.M))


def missing(text: str) -> list[str]:
    """The names that a script imports from the package, but that are not there."""
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.module)
    pairs = [(str(node.module), alias.name) for node in nodes for alias in node.names]
    return [f"{module}.{name}" for module, name in pairs if module.startswith("shitu_cli") and not exists(module, name)]


def test_benchmarks_import_names_that_exist() -> None:
    scripts = sorted((ROOT / "benchmarks").rglob("*.py"))
    assert scripts and [f"{path.name}: {name}" for path in scripts for name in missing(path.read_text("utf-8"))] == []


def test_a_name_that_is_gone_is_missed() -> None:
    assert missing("from shitu_cli.index.tune import found_share, recall_of") == ["shitu_cli.index.tune.found_share"]
    assert missing("from shitu_cli.steps import costs\nfrom shitu_cli.gone import x") == ["shitu_cli.gone.x"]
