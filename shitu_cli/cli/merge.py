"""`shitu merge`: join the shards of `shitu extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shitu_cli.cli import options
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command


def merge(
    context: typer.Context,
    shards: Annotated[list[str], argument("Files that shitu extract --shard wrote, or their folders.")],
    out: Annotated[
        Path | None, option(options.OUTPUT, "What to write; by default the --out of shitu extract, beside the shards.")
    ] = None,
    strict: Annotated[bool, option(options.OUTPUT, "Fail when an image could not be read.", "--strict")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Join the shards of shitu extract to the file that one process would have written, to the byte.

    Nothing is written unless all parts are there, whole, of the same model, and of the same images in the same order.
    The shards of shitu evaluate are joined by shitu evaluate --merge.
    """
    from shitu_cli.cli.extract import show_written
    from shitu_cli.features.extract_shards import merge_shards

    console = Session.of(context).console
    written = merge_shards(shards, out, console)
    show_written(console, written, written.files[0], strict=strict)
    console.next_step(Command("index build", "--features", written.files[0]))
