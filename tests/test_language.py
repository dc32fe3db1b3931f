"""How the code reads: one word for an image, docstrings that begin with a verb, no participles for variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from tests.sources import Source, parsed, sources

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


def pictures(source: Source) -> Iterator[str]:
    """Yield the lines with another word for image."""
    for number, line in enumerate(source.text.splitlines(), 1):
        # Folders and columns of users are called so, beside photos.
        if re.search("pictur", line, re.IGNORECASE) and '"pictures"' not in line and "photo" not in line:
            yield f"{number}: {line.strip()}"


def docstrings(source: Source) -> Iterator[str]:
    """Yield the functions whose docstring does not begin with a verb; properties are things, not actions."""
    for node in source.nodes:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        decorators = {getattr(item, "attr", getattr(item, "id", "")) for item in node.decorator_list}
        text = ast.get_docstring(node)
        if text is None or decorators & {"property", "cached_property", "setter"}:
            continue
        if NO_VERBS.match(text):
            yield f"{node.lineno}: {node.name}: {text.splitlines()[0]}"


def participles(source: Source) -> Iterator[str]:
    """Yield the variables and parameters that are called by a participle instead of a noun."""
    for node in source.nodes:
        is_target = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        name = node.id if is_target else node.arg if isinstance(node, ast.arg) else ""
        if name in PARTICIPLES:
            yield f"{node.lineno}: {name}"


def translations(source: Source) -> Iterator[str]:
    """Yield the lines with a phrase that was translated word by word."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if TRANSLATED.search(line):
            yield f"{number}: {line.strip()}"


@pytest.mark.parametrize("rule", [pictures, docstrings, participles, translations], ids=lambda rule: rule.__name__)
def test_the_code_reads_as_agreed(rule: Callable[[Source], Iterator[str]]) -> None:
    assert [f"{name}:{place}" for name, source in sources().items() for place in rule(source)] == []


def test_the_rules_find_what_they_forbid() -> None:
    text = 'def f(found):\n    """The pictures."""\n    made = 1\n\n\n@property\ndef g(self):\n    """A thing."""\n'
    source = parsed(text)
    assert len(list(pictures(source))) == 1
    assert [place.partition(":")[0] for place in docstrings(source)] == ["1"]
    assert sorted(participles(source)) == ["1: found", "3: made"]
    lines = "a file that is none\nimages that lie beside it\nwhich is nonetheless"
    assert list(translations(Source(lines, []))) == ["1: a file that is none", "2: images that lie beside it"]
