"""The container and the service of docs/serve.md, held against the program: their paths, options, ports and times."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the packages of shitu serve are not installed")

from shitu_cli.cli.app import app
from shitu_cli.cli.session import Session
from shitu_cli.config.places import Places
from shitu_cli.service import guard, server, settings
from shitu_cli.workspace import Workspace

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    (text,) = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)
    return str(text)


def steps() -> list[tuple[str, str]]:
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in block("dockerfile").splitlines())]


def of(word: str) -> list[str]:
    return [rest for name, rest in steps() if name == word]


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The parameters of `shitu serve` as the program reads them; fails for an option that is not there."""
    context = app.make_context("shitu", [], obj=Session(), resilient_parsing=True)
    serve = app.get_command(context, "serve")
    assert serve is not None
    return serve.make_context("serve", arguments, parent=context).params


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_container_copies_what_is_there() -> None:
    exported = Places.usual(Workspace(ROOT)).inference
    for source, _ in map(str.split, of("COPY")):
        assert source == "." or ROOT / source == exported  # this repository, and what export writes beside it
    assert (ROOT / "pyproject.toml").is_file() and "folder of this repository" in TEXT
    for run in of("RUN"):
        for extra in re.findall(r"/src\[(\w+)\]", run):
            assert extra in project()["optional-dependencies"]


def test_the_container_runs_a_python_that_the_program_takes() -> None:
    from packaging.specifiers import SpecifierSet

    (image,) = of("FROM")
    version = re.search(r"python:(\d+\.\d+)", image)
    assert version is not None and f"{version[1]}.0" in SpecifierSet(project()["requires-python"])


def test_the_container_starts_the_server_where_its_port_its_volume_and_its_probe_are() -> None:
    program, command, *arguments = json.loads(of("ENTRYPOINT")[0])
    given = parsed(arguments)
    assert (program, command) == ("shitu", "serve") and program in project()["scripts"]
    assert of("EXPOSE") == [str(given["port"])]
    (folder,), (volume,) = of("WORKDIR"), of("VOLUME")
    assert Path(volume) in (Path(folder) / given["index_dir"]).parents
    assert Path(volume) in (Path(folder) / given["keep"]).parents
    copied = {Path(target) for _, target in map(str.split, of("COPY"))}
    assert Path(folder) / given["model_dir"] in copied
    probe = re.search(rf"localhost:{given['port']}(/\w+)", of("HEALTHCHECK")[0])
    assert probe is not None and probe[1] in guard.OPEN  # it carries no key
    assert f"-p {given['port']}:{given['port']} -e {settings.KEY_VARIABLE} -v shop:{volume}" in TEXT
    assert given["host"] == "0.0.0.0" and parsed([*arguments, "--new"])["new"]


def test_the_unit_starts_the_server_and_leaves_it_time_to_stop() -> None:
    unit = dict(line.split("=", 1) for line in block("ini").splitlines() if "=" in line)
    program, command, *arguments = shlex.split(unit["ExecStart"])
    assert (Path(program).name, command) == ("shitu", "serve") and parsed(arguments)["host"] == "0.0.0.0"
    assert int(unit["TimeoutStopSec"]) > server.GRACE
    assert Path(program).is_relative_to(unit["WorkingDirectory"])
    assert unit["ReadWritePaths"] == unit["WorkingDirectory"]  # the index, its lock and the photos lie there
    assert f"`{unit['EnvironmentFile']}` holds `{settings.KEY_VARIABLE}=…`" in TEXT
