"""Open files that somebody else wrote and turn them into plain values; nothing else does."""

from shitu_cli.inputs.files import (
    MIB,
    StrPath,
    decode_text,
    is_input,
    kind_of,
    open_input,
    path_problem,
    read_bytes,
    read_text,
)
from shitu_cli.inputs.json_files import parse_json, read_json, read_json_object, read_note
from shitu_cli.inputs.numbers import box_of, whole_number

__all__ = [
    "MIB",
    "StrPath",
    "box_of",
    "decode_text",
    "is_input",
    "kind_of",
    "open_input",
    "parse_json",
    "path_problem",
    "read_bytes",
    "read_json",
    "read_json_object",
    "read_note",
    "read_text",
    "whole_number",
]
