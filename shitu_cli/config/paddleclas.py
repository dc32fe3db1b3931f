"""Recognise configs of PaddleClas, read them with its meaning, and note what this program does differently."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from shitu_cli.config.parts.optimizers import Momentum
from shitu_cli.config.parts.samplers import PKSampler
from shitu_cli.config.parts.schedules import Piecewise
from shitu_cli.config.parts.transforms import Pad
from shitu_cli.config.schema import Config, DatasetConfig
from shitu_cli.config.scopes import ALL, NETWORK_SCOPES

# Blocks and keys without effect here, by which a config of PaddleClas is recognised.
_THEIRS = ("Global.", "Arch.", "AMP.")
_BLOCKS = ("Infer", "PostProcess", "IndexProcess")
# Blocks that are not read, and what serves instead.
NOT_READ = {
    "Infer": "`shitu extract` and `shitu search` take images and options",
    "PostProcess": "`shitu search` and `shitu serve` answer with labels",
    "IndexProcess": "`shitu index build` takes images and options",
    "profiler_options": "train.log says how many images a second training takes",
}


def as_intended(config: Config, values: Mapping[str, Any], ignored: Collection[str]) -> Config:
    """Return the config of these plain values as its writer intended it, with notes; the keys `ignored` have no effect.

    A config is one of PaddleClas if it has keys or blocks that only PaddleClas uses. There ImageNetDataset reads only
    path and label of a list, except of those of `shitu prepare`, which have a label map beside them; and a head may
    have more classes than the list.
    """
    notes = list(_always(config, values))
    marks = (key for key in ignored if key.startswith(_THEIRS) or key.endswith(".loader.use_shared_memory"))
    if not any(marks) and not any(name in values for name in _BLOCKS):
        return dataclasses.replace(config, notes=tuple(notes))
    notes += [*_if_theirs(config), *_about_optimizers(config, values.get("Optimizer"))]
    return dataclasses.replace(
        config,
        Global=dataclasses.replace(config.Global, spare_classes=True),
        DataLoader=config.DataLoader.with_datasets(_with_its_columns),
        notes=tuple(notes),
    )


def _with_its_columns(dataset: DatasetConfig) -> DatasetConfig:
    is_prepared = Path(dataset.cls_label_path).with_name("label_map.txt").is_file()
    has_two = dataset.name == "ImageNetDataset" and not is_prepared
    return dataclasses.replace(dataset, ids=False) if has_two else dataset


def _always(config: Config, values: Mapping[str, Any]) -> Iterator[str]:
    for optimizer in (config.Optimizer, *config.loss_optimizers):
        if isinstance(optimizer.lr, Piecewise) and optimizer.lr.learning_rate:
            yield (
                f"Optimizer.lr.learning_rate: Piecewise begins at {optimizer.lr.learning_rate:g} and falls to a tenth "
                "every 30 epochs, as in PaddleClas; decay_epochs and values count only without learning_rate"
            )
        if optimizer.regularizer is not None and optimizer.weight_decay is not None:
            yield "Optimizer.regularizer replaces Optimizer.weight_decay, as in PaddleClas: one of them is enough"
    if config.Global.eval_mode is None and config.classifies:
        yield (
            "Metric.Eval is TopkAcc alone, so evaluations in training measure the classifier; "
            "-o Global.eval_mode=retrieval changes that"
        )
    without_effect = [f"{name} ({instead})" for name, instead in NOT_READ.items() if values.get(name)]
    loss = values.get("Loss")
    if isinstance(loss, Mapping) and loss.get("Eval"):
        without_effect.insert(0, "Loss.Eval (evaluations measure Metric.Eval)")
    if without_effect:
        yield f"without effect here: {', '.join(without_effect)}"
    if config.train_metrics and config.Arch.head is None:
        yield "Metric.Train has no effect: there is no Arch.Head, whose accuracy it would measure"
    if values.get("AMP") == {}:
        yield "AMP: an empty block is off, as in PaddleClas; -o AMP.use_amp=true turns mixed precision on"


def _if_theirs(config: Config) -> Iterator[str]:
    yield (
        "a config of PaddleClas: recall and mAP are means over the queries here, and images of the query's own camera "
        "are left out; docs/paddleclas.md lists what else differs"
    )
    if len(config.Loss) == 1 and config.Loss[0].weight != 1:
        name, weight = config.Loss[0].name, config.Loss[0].weight
        yield f"Loss.Train.0.{name}.weight: {weight:g} counts here; PaddleClas ignores the weight of a single loss"
    names = [loss.name for loss in config.Loss if config.Distillation is None]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"Loss.Train: each {name} counts here; in PaddleClas only the last of several losses of one kind does"
    if config.EMA is not None:
        yield (
            f"EMA.decay: after n steps the mean keeps at most (1 + n) / (10 + n) of itself here, so that a short run "
            f"forgets its start; PaddleClas keeps {config.EMA.decay:g} from the first step on"
        )
        yield (
            "EMA: here, evaluations measure the mean of the weights, and best_model is chosen by it and holds it; "
            "PaddleClas evaluates the weights too, chooses best_model by them, and keeps the mean as best_model_ema"
        )
    for optimizer in (config.Optimizer, *config.loss_optimizers):
        alone = optimizer.one_dim_param_no_weight_decay and not optimizer.no_weight_decay_name
        if isinstance(optimizer, Momentum) and alone:
            yield (
                "Optimizer.one_dim_param_no_weight_decay counts here by itself; PaddleClas's Momentum needs "
                "no_weight_decay_name beside it"
            )
    train = config.DataLoader.train
    for number, op in enumerate(() if train is None else train.dataset.transform_ops):
        if isinstance(op, Pad) and op.padding_mode != "constant":
            yield (
                f"DataLoader.Train.dataset.transform_ops.{number}.Pad.padding_mode: {op.padding_mode} counts here; "
                "PaddleClas ignores it, and its border is black or has the colour fill"
            )
    if train is not None and isinstance(train.sampler, PKSampler) and train.sampler.id_list:
        yield (
            "DataLoader.Train.sampler.id_list: the numbers are labels; PaddleClas numbers the classes in the order in "
            "which the list first shows them, which is the same for a list sorted by label"
        )


def _about_optimizers(config: Config, blocks: Any) -> Iterator[str]:
    """Yield what optimisers with scopes train here and there; `blocks` are their plain values."""
    losses = [loss.name for loss in config.Loss]
    given = [args.get("scope") for args in _arguments(blocks)]
    of_network = next((scope for scope in given if scope in NETWORK_SCOPES), None)
    if of_network is None:
        return
    others = [scope for scope in given if scope not in NETWORK_SCOPES and (of_network == ALL or scope not in losses)]
    if others:
        yield (
            f"Optimizer: parameters of the scope {' and '.join(map(str, others))} are trained by that optimiser alone; "
            f"in PaddleClas the optimiser with the scope {of_network} changes them too, in every step"
        )
    own = sorted({loss.name for loss in config.Loss if loss.learns and loss.name not in given})
    if own and of_network != ALL:
        yield (
            f"Optimizer: the scope {of_network} includes what {' and '.join(own)} learns; in PaddleClas that is not "
            "trained unless an entry has the loss as its scope"
        )


def _arguments(blocks: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments of each entry of a list `- Name: {arguments}`."""
    for entry in blocks if isinstance(blocks, list) else ():
        if isinstance(entry, Mapping):
            yield from (args for args in entry.values() if isinstance(args, Mapping))
