"""Text on the page: what a stranger's index hides in a label is shown, as everywhere else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from shitu_cli.reporting import HIDDEN, visible
from shitu_cli.service.page import document

NASTY = "oat\u202elmik\u061c \x1b]0;\x9b\u2066\x7f\udcff 😀 <b>\n\tété"
# What the scripts need of a browser before they begin.
BROWSER = """
const places = {};
const document = {
  createElement: () => ({append(...children) { this.children = children; }}),
  getElementById: (id) => places[id] ??= {},
};
const sessionStorage = {getItem: () => null};
"""


def scripts() -> str:
    return document().html.partition('<script type="module">')[2].partition("</script>")[0]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_shows_what_hides_in_text() -> None:
    first = scripts().partition("function say(")[0]
    use = f"""
    const nasty = {json.dumps(NASTY)};
    write("name", nasty);
    const button = element("button", {{textContent: nasty, tabIndex: 3}}, nasty, element("b"));
    console.log(JSON.stringify([places.name.textContent, button.textContent, button.children[0], button.tabIndex]));
    """
    done = subprocess.run(["node", "-"], input=BROWSER + first + use, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout) == [visible(NASTY)] * 3 + [3]


def test_no_script_writes_text_in_another_way() -> None:
    text = scripts()
    assert json.dumps(HIDDEN.pattern) in text
    assert re.findall(r"\.textContent = .*", text) == [".textContent = visible(text);"]
    labels = re.findall(r"\.(?:setAttribute\(\"aria-label\", |alt = )(.*)", text)
    assert len(labels) == 3 and all(label.startswith("visible(") for label in labels)
