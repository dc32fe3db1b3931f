"""How the code reads: one word for an image, docstrings that begin with a verb, no participles for variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "shitu_cli"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
# First words of docstrings that say what something is instead of what it does.
NO_VERBS = re.compile(
    r"(?i)(an?|the|all|each|every|both|some|another|one|several|only|no|not|nothing|first|last|best|same|largest|smallest|"
    r"what|when|where|whether|which|who|whose|why|how|if|that|this|these|those|it|its|their|as|at|by|for|from|in|of|on|"
    r"to|with|without|per|afterwards|images|names|number|paths|rows|seconds|text|values|channels|disjoint|dotted|files|"
    r"folder|height|letters|lists|means|most|pairs|queries|relative|relevant|running|sometimes|spreadsheets|usageerror|"
    r"weights|width)\b|[^a-z]"
)
PARTICIPLES = frozenset(["asked", "found", "made", "told"])
# What other languages say so, and English does not.
TRANSLATED = re.compile(
    r"\b(as by|held against|hangs? together|passed over|lies? (below|beside|among)|(that|which) is none|for what is no|"
    r"shall|of elsewhere|no numbers? any more)\b"
)


def pictures(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the lines with another word for image."""
    for number, line in enumerate(source.splitlines(), 1):
        # Folders and columns of users are called so, beside photos.
        if re.search("pictur", line, re.IGNORECASE) and '"pictures"' not in line and "photo" not in line:
            yield f"{number}: {line.strip()}"


def docstrings(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the functions whose docstring does not begin with a verb; properties are things, not actions."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        decorators = {getattr(item, "attr", getattr(item, "id", "")) for item in node.decorator_list}
        text = ast.get_docstring(node)
        if text is None or decorators & {"property", "cached_property", "setter"}:
            continue
        if NO_VERBS.match(text):
            yield f"{node.lineno}: {node.name}: {text.splitlines()[0]}"


def participles(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the variables and parameters that are called by a participle instead of a noun."""
    for node in ast.walk(tree):
        is_target = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        name = node.id if is_target else node.arg if isinstance(node, ast.arg) else ""
        if name in PARTICIPLES:
            yield f"{node.lineno}: {name}"


def translations(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the lines with a phrase that was translated word by word."""
    for number, line in enumerate(source.splitlines(), 1):
        if TRANSLATED.search(line):
            yield f"{number}: {line.strip()}"


RULES = (pictures, docstrings, participles, translations)


@pytest.fixture(scope="module")
def sources() -> dict[str, tuple[ast.Module, str]]:
    """Every file, parsed once for all rules."""
    texts = {name: (PACKAGE / name).read_text(encoding="utf-8") for name in FILES}
    return {name: (ast.parse(text), text) for name, text in texts.items()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_reads_as_agreed(
    rule: Callable[[ast.Module, str], Iterator[str]], sources: dict[str, tuple[ast.Module, str]]
) -> None:
    problems = [f"{name}:{place}" for name, (tree, text) in sources.items() for place in rule(tree, text)]
    assert problems == []


def test_the_rules_find_what_they_forbid() -> None:
    source = 'def f(found):\n    """The pictures."""\n    made = 1\n\n\n@property\ndef g(self):\n    """A thing."""\n'
    tree = ast.parse(source)
    assert len(list(pictures(tree, source))) == 1
    assert [place.partition(":")[0] for place in docstrings(tree, source)] == ["1"]
    assert sorted(participles(tree, source)) == ["1: found", "3: made"]
    assert list(translations(tree, "a file that is none\nimages that lie beside it\nwhich is nonetheless")) == [
        "1: a file that is none",
        "2: images that lie beside it",
    ]
