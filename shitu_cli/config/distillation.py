"""Several networks in one config: PaddleClas's `Arch: {name: DistillationModel, models: [...]}`.

One of them, the student, becomes the network of the config (`Config.Arch`): what is evaluated, saved and exported. The
others are its peers (`Config.Distillation`), which only training knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shitu_cli.config.kinds import fields_of
from shitu_cli.config.parts.heads import Head
from shitu_cli.config.parts.losses import Loss, NetworkLoss
from shitu_cli.config.reader import Reader, guess, show
from shitu_cli.config.schema import ArchConfig, Config, DistillationConfig, Peer

MODEL = "DistillationModel"
STUDENT = "Student"  # the network that is kept where no infer_model_name says which
Network = Callable[[str, Any], ArchConfig | None]
_KEYS = ("name", "models", "freeze_params_list", "pretrained_list", "infer_model_name")


def read_networks(
    reader: Reader, network: Network, block: Mapping[str, Any]
) -> tuple[ArchConfig | None, DistillationConfig | None]:
    """Return the student and its peers; report what does not fit together, and return None for it.

    `network` reads the block at a key as one network.
    """
    shared = {name: value for name, value in block.items() if name in fields_of(ArchConfig)}
    parts = [name for name in ("Backbone", "Neck", "Head") if name in block]
    for part in parts:
        reader.problem(f"Arch.{part}", f"each of Arch.models has its own: Arch.models.{STUDENT}.{part}")
    reader.unknown("Arch", block, (*_KEYS, *parts, *fields_of(ArchConfig), *ArchConfig.ignored))
    entries = _entries(reader, block.get("models"))
    names = [name for _, name, _ in entries]
    frozen = _parallel(reader, "freeze_params_list", block.get("freeze_params_list"), len(entries), bool)
    weights = _parallel(reader, "pretrained_list", block.get("pretrained_list"), len(entries), str)
    student = block.get("infer_model_name") or STUDENT
    if not isinstance(student, str):
        reader.problem("Arch.infer_model_name", f"got {show(student)}, expected the name of a network")
        student = STUDENT
    if names and student not in names:
        reader.problem(
            "Arch.infer_model_name" if "infer_model_name" in block else "Arch.models",
            f"got {show(student)} for the network that is kept, expected one of {', '.join(names)}"
            f"{guess(student, names)}",
        )
    archs = {name: network(key, {**shared, **values}) for key, name, values in entries}
    place = names.index(student) if student in names else None
    if place is not None and frozen[place]:
        reader.problem(f"Arch.freeze_params_list.{place}", f"{student} is the network that learns: it cannot be frozen")
    peers = tuple(
        Peer(name, arch, bool(frozen[number]), weights[number])
        for number, name in enumerate(names)
        if name != student and (arch := archs[name]) is not None
    )
    distillation = DistillationConfig(str(student), peers, None if place is None else weights[place])
    return archs.get(student), distillation


def check_networks(
    reader: Reader, losses: Sequence[Loss], student: ArchConfig, distillation: DistillationConfig | None
) -> None:
    """Report losses between networks whose networks are not there, or whose heads do not give what they compare."""
    networks = {} if distillation is None else networks_of(student, distillation)
    for number, loss in enumerate(losses):
        key = f"Loss.Train.{number}.{loss.name}"
        if not isinstance(loss, NetworkLoss):
            continue
        if distillation is None:
            reader.problem(key, f"compares several networks, which only Arch.name: {MODEL} has")
            continue
        for name in dict.fromkeys(loss.networks):
            if name not in networks:
                reader.problem(key, f"got the network {show(name)}, Arch.models has {', '.join(networks)}")
            elif getattr(loss, "key", None) == "logits" and (text := _obstacle(networks[name].head, loss)):
                reader.problem(key, f"the network {name} {text}")


def networks_of(student: ArchConfig, distillation: DistillationConfig) -> dict[str, ArchConfig]:
    """Return all networks by name, the student first."""
    return {distillation.student: student, **{peer.name: peer.arch for peer in distillation.peers}}


def arch_keys(config: Config) -> dict[str, ArchConfig]:
    """Return the networks of a config by their dotted keys, which `-o` takes; the one that is kept is the first."""
    if config.Distillation is None:
        return {"Arch": config.Arch}
    return {f"Arch.models.{name}": arch for name, arch in networks_of(config.Arch, config.Distillation).items()}


def head_keys(config: Config) -> dict[str, Head]:
    """Return the heads of a config by their dotted keys, which `-o` takes."""
    return {f"{key}.Head": arch.head for key, arch in arch_keys(config).items() if arch.head is not None}


def _entries(reader: Reader, value: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (dotted key, name, block) of each network of `models`."""
    if not isinstance(value, list) or not value:
        text = "missing" if not value else f"got {show(value)}, expected"
        reader.problem("Arch.models", f"{text} a list of networks: - Teacher: {{...}}, - Student: {{...}}")
        return []
    entries: list[tuple[str, str, dict[str, Any]]] = []
    for key, name, block in reader.entries("Arch.models", value, "{Backbone: ...}"):
        if name in (known for _, known, _ in entries):
            reader.problem(key, "a second network has this name")
        elif not name.isidentifier():
            reader.problem(key, "the name of a network is one word of letters and digits")
        else:
            entries.append((key, name, reader.mapping(key, block)))
    return entries


def _parallel(reader: Reader, name: str, value: Any, length: int, kind: type) -> list[Any]:
    """Return a list with a value (or None) for each network; null and False mean none."""
    if not value:
        return [None] * length
    if not isinstance(value, list) or len(value) != length:
        reader.problem(f"Arch.{name}", f"got {show(value)}, expected a list of {length}, one for each of Arch.models")
        return [None] * length
    for number, item in enumerate(value):
        if item not in (None, False) and not isinstance(item, kind):
            expected = "true or false" if kind is bool else "a file or null"
            reader.problem(f"Arch.{name}.{number}", f"got {show(item)}, expected {expected}")
    return [item or None for item in value]


def _obstacle(head: Head | None, loss: NetworkLoss) -> str:
    """Return why the head of a network does not give the logits that a loss needs; "" if it does."""
    if head is None:
        return "has no Head, which gives the logits"
    if loss.compares_logits and getattr(head, "sample_ratio", 1.0) < 1:
        return "trains against some of the classes at a time (Head.sample_ratio), and others in each network"
    return ""
