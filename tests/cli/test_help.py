"""Help is fast because it imports little: no Paddle, no OpenCV."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shitu_cli.cli.app import COMMANDS
from tests.command import shitu

HEAVY = {"paddle", "cv2", "numba", "faiss", "onnxruntime", "onnx", "scipy"}
# In the order in which they are loaded: those that load none of it (the last one OpenCV), and those without engines.
LOWER = [
    *("errors", "workspace", "reporting", "config.load", "config.patch", "preparation.adapt", "data.lists"),
    *("preparation.split", "preparation.problems", "evaluation.metrics", "templates", "preparation.formats"),
]
MIDDLE = [
    *("preparation.audit", "data.images", "data.dataset", "data.loader", "index", "features.engine", "report.page"),
]


def run(code: str, *arguments: str) -> str:
    """The last line that this code prints in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def loads() -> dict[str, set[str]]:
    """Which packages each of these modules loads that those before it have not loaded, in one interpreter for all."""
    code = """
import importlib, json, sys
loads, before = {}, set()
for name in sys.argv[1:]:
    importlib.import_module(f"shitu_cli.{name}")
    now = {module.partition(".")[0] for module in sys.modules}
    loads[name], before = sorted(now - before), now
print(json.dumps(loads))
"""
    return {name: set(packages) for name, packages in json.loads(run(code, *LOWER, *MIDDLE)).items()}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['shitu', '--help']\nfrom shitu_cli.cli.app import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    assert not HEAVY & set(run(code).split())


@pytest.mark.parametrize("module", LOWER)
def test_the_lower_levels_load_no_paddle_and_no_opencv(module: str, loads: dict[str, set[str]]) -> None:
    allowed = {"cv2"} if module == "preparation.formats" else set()
    assert not (HEAVY - allowed) & loads[module]


@pytest.mark.parametrize("module", MIDDLE)
def test_the_middle_levels_load_no_paddle(module: str, loads: dict[str, set[str]]) -> None:
    assert not {"paddle", "faiss", "onnxruntime"} & loads[module]


def test_only_the_console_loads_rich() -> None:
    sources = Path(__file__).parents[2] / "shitu_cli"
    users = {
        str(p.relative_to(sources))
        for p in sources.rglob("*.py")
        if "import rich" in p.read_text() or "from rich" in p.read_text()
    }
    assert users == {"cli/console.py"}


def test_version(tmp_path: Path) -> None:
    import shitu_cli

    assert shitu("--version", cwd=tmp_path).stdout.strip() == f"shitu {shitu_cli.__version__}"


def test_a_search_loads_neither_the_whole_config_nor_the_training() -> None:
    modules = ("features.extractor", "index.searcher", "steps.models", "steps.search", "config.places")
    code = "\n".join(f"import shitu_cli.{module}" for module in modules)
    names = run(f"{code}\nimport sys; print(*sys.modules)").split()
    assert "shitu_cli.features.extractor" in names
    others = ("shitu_cli.config.schema", "shitu_cli.config.parts.augmentations", "shitu_cli.training")
    others += ("importlib.metadata", "pydantic", "rich")
    assert not [name for name in names if name.startswith(others)]


def test_a_command_loads_no_other_command() -> None:
    code = "from shitu_cli.cli.app import app\nimport sys\n"
    code += "app.get_command(app.make_context('shitu', ['search', 'x'], resilient_parsing=True), 'search')\n"
    code += "print(*(name for name in sys.modules if name.startswith('shitu_cli.cli.')))"
    names = {name.rpartition(".")[2] for name in run(code).split()}
    assert "search" in names and names & set(COMMANDS) == {"search"}


@pytest.mark.parametrize(
    ("words", "similar"),
    [
        (["trian"], "'trian'; did you mean train?"),
        (["index", "bild"], "'bild'; did you mean build?"),
        (["infer", "-c", "x.yaml"], "'infer'; did you mean extract?"),  # PaddleClas's scripts
        (["tools/eval.py"], "'tools/eval.py'; did you mean evaluate?"),
        (["build_gallery"], "'build_gallery'; did you mean index build?"),
        (["index", "eval"], "'eval'"),
        (["status"], "'status'; shitu alone shows what has been done"),
    ],
)
def test_an_unknown_command_is_answered_alike_everywhere(words: list[str], similar: str, tmp_path: Path) -> None:
    done = shitu(*words, cwd=tmp_path, check=False)
    assert done.returncode == 2 and f"there is no command {similar}" in done.stderr


def test_options_of_paddles_launcher_are_known(tmp_path: Path) -> None:
    done = shitu("train", "--gpus", "0,1", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "No such option: --gpus; did you mean --devices?" in done.stderr


@pytest.mark.parametrize("name", ["-p", "--profiler_options"])
def test_the_profiler_of_paddleclas_is_named_as_that(name: str, tmp_path: Path) -> None:
    done = shitu("train", "-c", "x.yaml", name, "batch_range=[10,20]", cwd=tmp_path, check=False)
    assert done.returncode == 2 and f"No such option: {name}" in done.stderr
    assert "hint: leave it out: PaddleClas's profiler does not exist here" in done.stderr


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("index build photos -c x.yaml", "shitu export -c FILE.yaml --out inference/"),
        ("search a.jpg --config=x.yaml", "export its model, and name that with --model"),
        ("serve -o Global.epochs=3", "reads the shitu.yaml of the workspace (-w DIR)"),
        ("prepare photos -c x.yaml", "from a template that --template names"),
        ("prepare photos -o Global.epochs=3", "shitu train -o KEY=VALUE"),
        ("models -c x.yaml", "shitu models --help"),
    ],
)
def test_a_config_where_a_command_takes_none(line: str, hint: str, tmp_path: Path) -> None:
    done = shitu(*line.split(), cwd=tmp_path, check=False)
    assert done.returncode == 2 and "No such option: -" in done.stderr and hint in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("line", "offers"),
    [("shitu ex", ["export", "extract"]), ("shitu index b", ["build"]), ("shitu train --ep", ["--epochs"])],
)
def test_the_tab_key_completes_commands_that_are_loaded_when_asked_for(
    line: str, offers: list[str], tmp_path: Path
) -> None:
    asked = {"_SHITU_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    assert shitu(cwd=tmp_path, env=asked).stdout.split() == offers
