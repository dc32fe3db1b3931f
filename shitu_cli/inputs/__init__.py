"""Open files that somebody else wrote and turn them into plain values; nothing else does."""

from shitu_cli.inputs.files import (
    EXPANDS,
    MAX_TEXT,
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
from shitu_cli.inputs.lines import count_lines, read_lines, same_content
from shitu_cli.inputs.numbers import box_of, is_real, is_whole, whole_number

__all__ = [
    "EXPANDS",
    "MAX_TEXT",
    "MIB",
    "StrPath",
    "box_of",
    "count_lines",
    "decode_text",
    "is_input",
    "is_real",
    "is_whole",
    "kind_of",
    "open_input",
    "parse_json",
    "path_problem",
    "read_bytes",
    "read_json",
    "read_json_object",
    "read_lines",
    "read_note",
    "read_text",
    "same_content",
    "whole_number",
]
