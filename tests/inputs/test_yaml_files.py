"""YAML of any shape ends in a value or in an error of the caller's class, soon."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import ConfigError, DataError
from shitu_cli.inputs.yaml_files import compose_yaml, parse_yaml, read_yaml, scalar_value

_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
HOSTILE = {
    "aliases of aliases": (_LAUGHS, "aliases stand for more than"),
    "merged aliases": (_LAUGHS.replace("[x", "{x: 1, y").replace("x]", "x: 2}"), "valid YAML|aliases"),
    "alias of itself": ("a: &a [1, *a]", ":1: the alias .a contains itself"),
    "merge of itself": ("a: &a {<<: *a}", "contains itself"),
    "deep flow": ("[" * 50_000, "levels deep|nesting depth"),
    "deep block": ("".join(f"{' ' * n}a:\n" for n in range(100)), "levels deep"),
    "deep dashes": ("- " * 5_000 + "x", "levels deep"),
    "deep keys": ("? " * 5_000 + "x", "levels deep"),
    "object": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "unknown tag": ("a: !mine 1", "could not determine a constructor"),
    "empty int": ("\na: !!int ''", ":2: not valid YAML: '' is not a value of type int"),
    "no bool": ("a: !!bool maybe", "'maybe' is not a value of type bool"),
    "empty float": ("a: !!float ''", "not a value of type float"),
    "no date": ("a: 2001-99-99", "not a value of type timestamp"),
    "no timestamp": ("a: !!timestamp x", "not a value of type timestamp"),
    "long int": ("a: " + "9" * 5000, "not a value of type int"),
    "long base 60": ("a: 1" + ":59" * 300_000, "not a value of type int"),
    "long float": ("a: " + "9" * 5000 + ".0", "not a value of type float"),
    "map as a key": ("? {a: 1}\n: 2", "not valid YAML"),
    "no binary": ("a: !!binary 'é'", "not valid YAML"),
    "set of a list": ("a: !!set [1]", "not valid YAML"),
    "unknown alias": ("a: *b", "undefined alias"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "control characters": ("a: \x07", "not valid YAML"),
    "surrogate": ("a: \udcff", "not UTF-8 text"),
    "tabs": ("a:\n\t- b", ":2: not valid YAML"),
    "cut off": ("a: {b: [1", "not valid YAML"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_with_a_reason(name: str) -> None:
    text, reason = HOSTILE[name]
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_yaml(text, "file.yaml", error=ConfigError)
    assert caught.value.message.startswith("file.yaml")


def test_plain_values_come_back(tmp_path: Path) -> None:
    text = "# é\na: &a {x: 1, y: 1e-5}\nb: *a\nc: {<<: *a, y: [true, null, 2001-01-01, 0x10]}\n"
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8-sig")
    assert read_yaml(tmp_path / "file.yaml") == yaml.safe_load(text)
    assert parse_yaml("", "nothing") is None
    (tmp_path / "file.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(DataError, match=r"file\.yaml:2: byte 0xff"):
        read_yaml(tmp_path / "file.yaml")


def test_nodes_have_the_places_of_the_text() -> None:
    node = compose_yaml("# é\na: é\nb: 12", "file.yaml")
    assert isinstance(node, yaml.MappingNode)
    value = node.value[1][1]
    assert (value.start_mark.line, value.start_mark.index, value.end_mark.index) == (2, 12, 14)
    assert scalar_value(value) == 12
    with pytest.raises(ValueError, match="not a value of type bool"):
        scalar_value(yaml.ScalarNode("tag:yaml.org,2002:bool", "maybe"))


_TAGS = ["!!int ", "!!float ", "!!bool ", "!!set ", "!!timestamp ", "!!binary ", "!!omap ", "!!pairs ", "!x "]
_WORDS = ["a", "&a ", "*a", "- ", "? ", ": ", "<<: ", "---", "1:2", "0x", "1e5", "-.inf", "2001-13-01"]
_SIGNS = " \n\t\x85\ufeff\0\U0001f600:[]{},'\"|>#%~é²=_.+-0"
_FRAGMENTS = st.sampled_from([*_TAGS, *_WORDS, *_SIGNS])


@given(st.lists(_FRAGMENTS, max_size=25).map("".join))
def test_any_text_is_a_value_or_a_data_error(text: str) -> None:
    try:
        parse_yaml(text, "file.yaml")
    except DataError as error:
        assert error.message.startswith("file.yaml")
