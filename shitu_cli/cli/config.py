"""`shitu config`: every value of the resolved config, and where it comes from."""

from __future__ import annotations

import difflib
import shlex
from typing import Annotated, Any

import typer

from shitu_cli.cli import opening, options
from shitu_cli.cli.options import argument
from shitu_cli.cli.session import Session
from shitu_cli.config.kinds import shown
from shitu_cli.errors import UsageError


def config(
    context: typer.Context,
    pattern: Annotated[str, argument("Show only keys that contain this, such as lr.")] = "",
    workspace: options.WorkspaceOption = None,
    config: options.ConfigOption = None,
    override: options.OverrideOption = None,
    as_yaml: Annotated[bool, options.option(options.OUTPUT, "Print the whole config as YAML.", "--yaml")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Show every value of the config and where it comes from, or what is wrong with it."""
    import yaml

    from shitu_cli.config.dump import dump_config
    from shitu_cli.steps.settings import workspace_config

    session = Session.of(context)
    console = session.console
    if as_yaml:
        session.refuse("--json", why="--yaml prints YAML", hint="give one of them")
        if pattern:
            raise UsageError(f"{pattern}: --yaml always prints the whole config", hint=f"leave out {pattern} or --yaml")
    space = opening.open_workspace(session, config)
    settings = workspace_config(space, config, override or ())
    text = dump_config(settings)
    if as_yaml:
        console.document(text)
        return
    values = _flat(yaml.safe_load(text), "")
    rows = [
        (key, value, settings.origins.get(key, "default")) for key, value in values if pattern.lower() in key.lower()
    ]
    if not rows:
        raise _no_match(pattern, [key for key, _ in values])
    if console.as_json:
        console.json([{"key": key, "value": value, "origin": origin} for key, value, origin in rows])
        return
    table = [[key, shown(value), origin] for key, value, origin in rows]
    console.table(str(config or space.config_path), ["key", "value", "from"], table)


def _no_match(pattern: str, keys: list[str]) -> UsageError:
    """Return the error for a pattern that no key contains, with the most similar key."""
    names = {key.rpartition(".")[2].lower(): key for key in reversed(keys)}
    close = difflib.get_close_matches(pattern.lower().rpartition(".")[2], names, n=1)
    hint = f"did you mean {names[close[0]]}? shitu config {shlex.quote(names[close[0]])}" if close else "shitu config"
    return UsageError(f"no key of the config contains {pattern!r}", hint=hint)


def _flat(value: Any, key: str) -> list[tuple[str, Any]]:
    """Return (dotted key, value) of all leaves; lists of plain values are leaves."""
    if isinstance(value, dict) and value:
        return [pair for name, item in value.items() for pair in _flat(item, f"{key}.{name}" if key else str(name))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [pair for number, item in enumerate(value) for pair in _flat(item, f"{key}.{number}")]
    return [(key, value)]
