"""Options that several commands share, so that they are named and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Headings of the help.
WORKSPACE = "Workspace and config"
RUN = "The run"
PROCESSOR = "Processor"
MODEL = "Model"
STORE = "Where the index is"
OUTPUT = "Output"

MAX_SEED = 2**32 - 1

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help="Directory with shitu.yaml; default: here or above.",
        show_default=False,
        rich_help_panel=WORKSPACE,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Another config file, such as one of PaddleClas.",
        show_default=False,
        rich_help_panel=WORKSPACE,
    ),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        "-o",
        metavar="KEY=VALUE",
        help="Set a config value: -o Global.epochs=3 (repeatable).",
        show_default=False,
        rich_help_panel=WORKSPACE,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=OUTPUT)]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        min=1,
        max=1_000_000,
        help="Passes over the training images.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        max=1_000_000,
        help="Images per step and process.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
LrOption = Annotated[
    float | None,
    typer.Option("--lr", min=0.0, max=1000.0, help="Highest learning rate.", show_default=False, rich_help_panel=RUN),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, max=MAX_SEED, help="Makes a run repeatable.", show_default=False, rich_help_panel=RUN
    ),
]
EvalDuringTrainOption = Annotated[
    str | None,  # a bool would become a flag without a value
    typer.Option(
        "--eval-during-train",
        metavar="true|false",
        help="Measure recall after each epoch and keep the best model.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, gpu or gpu:0.", show_default=False, rich_help_panel=PROCESSOR),
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices",
        help="Several processes: 0,1,2,3 (GPUs) or cpu:2.",
        show_default=False,
        rich_help_panel=PROCESSOR,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="fp32 or bf16; default: what the model was exported for.", show_default=False, rich_help_panel=PROCESSOR
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--num-workers",
        min=0,
        max=1024,
        help="Threads that decode images.",
        show_default=False,
        rich_help_panel=PROCESSOR,
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="Exported directory, ONNX file or checkpoint; default: inference/, else the best checkpoint.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
PretrainedOption = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        metavar="NAME",
        help="Published weights instead of a trained model: a name of shitu weights list, or NETWORK=FILE.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]


def parse_bool(name: str, text: str) -> bool:
    """`true` or `false` in the usual spellings; typer.BadParameter otherwise."""
    value = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in value:
        raise typer.BadParameter(f"{name}: got {text!r}, expected true or false")
    return value[text.lower()]


def flag_overrides(
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    device: str | None = None,
    seed: int | None = None,
    num_workers: int | None = None,
    eval_during_train: str | None = None,
) -> dict[str, object]:
    """The flags that were given, as dotted config keys; stronger than `-o`."""
    given: dict[str, object] = {
        "Global.epochs": epochs,
        "DataLoader.Train.sampler.batch_size": batch_size,
        "Optimizer.lr.learning_rate": lr,
        "Global.device": device,
        "Global.seed": seed,
        "DataLoader.Train.loader.num_workers": num_workers,
        "Global.eval_during_train": None
        if eval_during_train is None
        else parse_bool("--eval-during-train", eval_during_train),
    }
    return {key: value for key, value in given.items() if value is not None}
