"""Refuse a command line that Typer cannot read, and say what to do instead."""

from __future__ import annotations

from typing import Any

from shitu_cli.errors import Command, Message, UsageError

# Options of PaddleClas's launcher and of its older scripts, and those that say the same here.
_OPTIONS_ELSEWHERE = {"--gpus": "--devices", "--selected_gpus": "--devices", "--use_gpu": "--device"}
_PROFILER = ("-p", "--profiler_options")  # of PaddleClas's scripts
_WITHOUT_PROFILER = "leave it out: PaddleClas's profiler does not exist here; train.log says how fast training is"
_CONFIG = ("-c", "--config", "-o", "--override")


def usage_error(error: Any) -> UsageError:
    """Return the UsageError for a command line that Typer refused."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "shitu"
    option = getattr(error, "option_name", "")
    ours = _OPTIONS_ELSEWHERE.get(option, "")
    remark = f"; did you mean {ours}?" if ours else ""
    text = f"{' '.join(error.format_message().split())}{remark}"
    instead = _instead_of_config(path.partition(" ")[2], context) if option in _CONFIG else None
    if option in _PROFILER and _takes_config(context):
        instead = _WITHOUT_PROFILER
    return UsageError(text, hint=instead or f"{path} --help lists its arguments and options")


def _takes_config(context: Any) -> bool:
    return any(parameter.name == "override" for parameter in context.command.params)


def _instead_of_config(command: str, context: Any) -> Message | None:
    """Return the way out where a command takes no config; None for one to which a config means nothing."""
    if command == "prepare":
        return [
            "prepare writes the config, from a template that --template names: change shitu.yaml afterwards, or give "
            "values to ",
            Command("train", "-o", "KEY=VALUE"),
        ]
    if any(parameter.name in ("model", "model_dir") for parameter in context.command.params):
        return [
            "this command reads the shitu.yaml of the workspace (-w DIR); with another config, export its model, and "
            "name that with --model: ",
            Command("export", "-c", "FILE.yaml", "--out", "inference/"),
        ]
    return None
