"""Whatever a config file or an option says ends in a config or in one of the program's own errors."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.config.dump import dump_config
from shitu_cli.config.load import load_config
from shitu_cli.config.patch import patch_yaml
from shitu_cli.errors import ConfigError
from shitu_cli.preparation.adapt import DataFacts, adapt_values
from shitu_cli.templates import list_templates, read_template
from tests.mutations import cases

TEMPLATES = {template.name: read_template(template.name) for template in list_templates()}
FRAGMENTS = [
    *(
        "!!int ",
        "!!float ",
        "!!bool ",
        "!!str ",
        "!!binary ",
        "!!set ",
        "!!timestamp ",
        "!x ",
        "&a ",
        "*a",
        "<<: ",
        "? ",
    ),
    *("''", "[]", "{}", "null", "~", "maybe", "2001-99-99", "1:30", "0x", ".nan", ".inf", "-1", "1e400", "9" * 30),
    *(
        "- ",
        ": ",
        "\n",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        "#",
        "|",
        ">",
        "%",
        "@",
        "\0",
        "\x1b",
        "é",
        "\u2028",
        "²",
        "\U0001f600",
    ),
    *("name: PKSampler", "- Nope: {a: 1}", "scale: [1, 2, 3]", "size: [[1]]", "true", "'a b'", "{a: {b: [1, {c: 2}]}}"),
]
mutations = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["insert", "replace", "value", "drop", "line"]), st.sampled_from(FRAGMENTS)
    ),
    min_size=1,
    max_size=6,
)
texts = st.text(st.sampled_from("aA.0²9-=: []{}&*!'\"\0\n_é"), max_size=12)


def mutate(text: str, changes: list[tuple[float, str, str]]) -> str:
    for place, how, fragment in changes:
        lines = text.split("\n")
        row, at = int(place * (len(lines) - 1)), int(place * len(text))
        if how == "insert":
            text = text[:at] + fragment + text[at:]
        elif how == "replace":
            text = text[:at] + fragment + text[at + len(fragment) :]
        elif how == "drop":
            text = text[:at] + text[at + 7 :]
        else:
            key, colon, _ = lines[row].partition(":")
            lines[row] = f"{key}{colon} {fragment}" if how == "value" else lines[row] * 2
            text = "\n".join(lines)
    return text


def keys(text: str) -> list[str]:
    """Dotted keys of a template, and some that it does not have."""
    import yaml

    found = []

    def walk(value: object, key: str) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in pairs:
            found.append(f"{key}.{name}".lstrip("."))
            walk(item, f"{key}.{name}")

    walk(yaml.safe_load(text), "")
    return [
        *found,
        "Global.image_shape.²",
        "Loss.Train.99999999999999999999.x",
        "A" + ".b" * 999,
        "Arch..name",
        "epochs",
    ]


KEYS = keys(TEMPLATES["general_v2"])


def settle(path: Path, overrides: list[str]) -> None:
    """Load; where that is possible, what is written of the config loads again."""
    try:
        config = load_config(path, overrides)
    except ConfigError as error:
        assert error.exit_code == 4 and error.message
        return
    again = path.with_name("again.yaml")
    again.write_text(dump_config(config), encoding="utf-8")
    assert dataclasses.replace(load_config(again), origins={}) == dataclasses.replace(config, origins={})


@cases(300)
@given(st.sampled_from(sorted(TEMPLATES)), mutations)
def test_any_mutation_of_a_template(tmp_path_factory: pytest.TempPathFactory, name: str, changes: list) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    text = mutate(TEMPLATES[name], changes)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    settle(path, [])
    with contextlib.suppress(ConfigError):
        patch_yaml(text, adapt_values(text, DataFacts(3, 100, "."), template=None))


@cases(150)
@given(st.data())
def test_any_option(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.yaml"
    path.write_text(TEMPLATES["general_v2"], encoding="utf-8")
    known = st.sampled_from(KEYS)
    option = st.one_of(st.builds("{}={}".format, known, st.sampled_from(FRAGMENTS) | texts), texts)
    settle(path, data.draw(st.lists(option, min_size=1, max_size=4)))


@cases(100)
@given(st.binary(max_size=60), st.integers(0, 3000))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    whole = TEMPLATES["quick"].encode()
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    settle(path, [])
