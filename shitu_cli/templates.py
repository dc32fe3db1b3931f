"""The config templates that come with the program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shitu_cli.errors import UsageError


@dataclass(frozen=True)
class Template:
    """A template; `summary` is its first comment line."""

    name: str
    path: Path
    summary: str


def templates_dir() -> Path:
    """Return the folder of the templates: in the installed package, or at the top of a source tree."""
    inside = Path(__file__).parent / "templates"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "templates"


def list_templates() -> list[Template]:
    """Return all templates in order of their names."""
    templates = []
    for path in sorted(templates_dir().glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            templates.append(Template(path.stem, path, file.readline().lstrip("# ").strip()))
    return templates


def read_template(name: str) -> str:
    """Return the text of a template; raise UsageError that lists the names if there is none."""
    paths = {template.name: template.path for template in list_templates()}
    if name not in paths:
        raise UsageError(f"no template named {name!r}; there are: {', '.join(paths)}")
    return paths[name].read_text(encoding="utf-8")
