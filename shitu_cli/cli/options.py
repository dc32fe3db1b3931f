"""Options that several commands share, so that they are named and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shitu_cli.config.kinds import Number

# Headings of the help.
WORKSPACE = "Workspace and config"
RUN = "The run"
PROCESSOR = "Processor"
MODEL = "Model"
DETECTION = "Things in an image"
STORE = "Where the index is"
OUTPUT = "Output"

MANY = 1_000_000  # a bound that only keeps out mistakes; help does not mention it
SOURCES = "Images, folders (an image's label is the name of its folder), archives, lists, patterns or addresses."


def option(
    group: str,
    help: str,
    *names: str,
    low: float | None = None,
    high: float | None = None,
    within: Number | None = None,
    metavar: str | None = None,
) -> Any:
    """Return an option that help lists under the heading `group`.

    A number must be between `low` and `high`, or `within` what the function for programs accepts.
    Without `names` it is called like the parameter. A truth value needs a name, or it gets an option --no-NAME too.
    """
    if within is not None:
        low, high = within.range.low, within.range.high
    return typer.Option(*names, help=help, rich_help_panel=group, min=low, max=high, metavar=metavar)


def argument(help: str) -> Any:
    """Return an argument, which help lists under its own heading."""
    return typer.Argument(help=help)


WorkspaceOption = Annotated[
    Path | None,
    option(WORKSPACE, "Directory with shitu.yaml; by default this one or one above it.", "--workspace", "-w"),
]
ConfigOption = Annotated[
    Path | None, option(WORKSPACE, "Another config file, such as one of PaddleClas.", "--config", "-c")
]
OverrideOption = Annotated[
    list[str] | None,
    option(
        WORKSPACE,
        "Set a value of the config, such as -o Global.epochs=3. May be repeated.",
        *("--override", "-o"),
        metavar="KEY=VALUE",
    ),
]
IndexOption = Annotated[Path | None, option(STORE, "Directory of the index; by default index/.")]
StoreOption = Annotated[
    str | None,
    option(
        STORE,
        "Keep the index in Milvus: milvus:http://host:19530 (API key or user:password in SHITU_MILVUS_TOKEN) "
        "or a local file milvus:gallery.db.",
        metavar="milvus:ADDRESS",
    ),
]
CollectionOption = Annotated[str | None, option(STORE, "Name of the collection in Milvus; by default shitu.")]
JsonOption = Annotated[bool, option(OUTPUT, "Print the result as JSON on stdout.", "--json")]
DryRunOption = Annotated[
    bool,
    option(OUTPUT, "Only measure what it would cost in time, memory and disk; write nothing.", "--dry-run"),
]
DeviceOption = Annotated[str | None, option(PROCESSOR, "auto, cpu, gpu or gpu:0.")]
DevicesOption = Annotated[str | None, option(PROCESSOR, "Use several processes: 0,1,2,3 (GPUs) or cpu:2.")]
ShardOption = Annotated[
    str | None,
    option(PROCESSOR, "Compute only this part, such as 3/16: part 3 of 16 parts.", metavar="PART/PARTS"),
]
PrecisionOption = Annotated[str | None, option(PROCESSOR, "fp32 or bf16; by default what the model was exported for.")]
ModelOption = Annotated[
    Path | None,
    option(MODEL, "Exported directory, ONNX file or checkpoint; by default inference/, else the best checkpoint."),
]
PretrainedOption = Annotated[
    str | None,
    option(
        MODEL,
        "Published weights instead of a trained model: a name from shitu weights list, or NETWORK=FILE.",
        metavar="NAME",
    ),
]
DetectorOption = Annotated[
    Path | None,
    option(
        DETECTION,
        "Find things with this detector first: a directory of PaddleDetection or PaddleX, or a YOLO model as .onnx.",
    ),
]
DetectorThresholdOption = Annotated[
    float | None, option(DETECTION, "Lowest confidence of a detection; by default 0.2.", low=0.0, high=1.0)
]
MaxBoxesOption = Annotated[
    int | None,
    option(
        DETECTION, "Largest number of things in one image, the most confident first; by default 5.", low=1, high=1000
    ),
]


def parse_bool(name: str, text: str) -> bool:
    """Return the truth value of `true` or `false` in the usual spellings; raise typer.BadParameter for other text."""
    values = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in values:
        raise typer.BadParameter(f"{name}: got {text!r}, expected true or false")
    return values[text.lower()]
