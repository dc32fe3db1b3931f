"""Several optimisers in one config: each has a `scope`, which says what it trains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from shitu_cli.config.distillation import MODEL
from shitu_cli.config.parts.optimizers import Optimizer
from shitu_cli.config.reader import Reader, show

NETWORK = "RecModel"  # the scope of the optimiser that trains the network
ALL = "all"  # PaddleClas's word for the network and what losses learn
NETWORK_SCOPES = (NETWORK, MODEL, ALL)  # which mean the same here: MODEL is the class of several networks


def read_optimizers(reader: Reader, value: Any, losses: Sequence[str]) -> list[Optimizer]:
    """Return the network's optimiser first and those of `losses` last, from one block or a list with scopes."""
    if not isinstance(value, list):
        optimizer = _read(reader, "Optimizer", value)
        return [] if optimizer is None else [optimizer]
    optimizers: list[Optimizer] = []
    for key, name, args in reader.entries("Optimizer", value):
        block = dict(reader.mapping(key, args))
        scope = block.pop("scope", None)
        _check_scope(reader, key, scope, losses)
        scope = None if scope in NETWORK_SCOPES else str(scope)
        optimizer = _read(reader, key, {"name": name, **block}, scope=scope)
        if optimizer is not None:
            optimizers.append(optimizer)
    scopes = [optimizer.scope for optimizer in optimizers]
    if len(set(scopes)) < len(scopes):
        reader.problem("Optimizer", f"two optimisers have the same scope ({', '.join(NETWORK_SCOPES)} mean one)")
    if optimizers and all(scope in losses for scope in scopes):
        reader.problem("Optimizer", f"no optimiser has the scope {NETWORK}, which means the network")
    return sorted(optimizers, key=lambda optimizer: (optimizer.scope is not None, optimizer.scope in losses))


def _read(reader: Reader, key: str, value: Any, **given: Any) -> Optimizer | None:
    """Return one optimiser; as in PaddleClas, a rate without the name of a schedule stays the same."""
    block = reader.mapping(key, value)
    rate = block.get("lr")
    if isinstance(rate, dict) and rate.keys() == {"learning_rate"}:
        block = {**block, "lr": {"name": "Constant", **rate}}
    optimizer: Optimizer | None = reader.named(key, "optimizer", block, **given)
    return optimizer


def _check_scope(reader: Reader, key: str, scope: Any, losses: Sequence[str]) -> None:
    """Report a scope that is neither RecModel, nor a loss of the config, nor a pattern of layers."""
    expected = f"one of {', '.join(sorted((NETWORK, *losses)))}, or a pattern of layers such as backbone.blocks.*"
    if not isinstance(scope, str) or (scope.endswith("Loss") and scope not in losses):
        reader.problem(f"{key}.scope", f"got {show(scope)}, expected {expected}")
        return
    try:
        re.compile(scope)
    except re.error as error:
        reader.problem(f"{key}.scope", f"got {show(scope)}, which is not a pattern ({error}); expected {expected}")
