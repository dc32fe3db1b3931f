"""Write the reference of all keys from the blocks and parts: python -m shitu_cli.config.reference > docs/config.md"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from shitu_cli.config.kinds import Keys, describe, fields_of, shown
from shitu_cli.config.parts import KINDS, plain
from shitu_cli.config.parts.initializers import ParameterAttribute, ParameterDecay
from shitu_cli.config.parts.optimizers import Regularizer
from shitu_cli.config.schema import AmpConfig, ArchConfig, DatasetConfig, EmaConfig, GlobalConfig, LoaderConfig

_HEAD = """\
# Every key of the config

Written by `python -m shitu_cli.config.reference > docs/config.md` from the classes that check a config; a test
compares it.

A key is written `Block.key`, in messages and on the command line: `-o Global.epochs=3`, `-o
Arch.Backbone.name=PPLCNet_x0_5`. Entries of lists (losses, transforms) are addressed by their names: `-o
Loss.Train.CELoss.epsilon=0.1`. `shitu config` shows the value of every key and where it comes from. A key without a
default is required. Relative paths refer to the workspace. All problems of a config are reported at once, each with
its line. Keys of PaddleClas that have no effect here are accepted, and named below.
"""
_BLOCKS: tuple[tuple[str, type[Keys]], ...] = (
    ("Global", GlobalConfig),
    ("Arch", ArchConfig),
    ("DataLoader.Train.dataset, DataLoader.Eval.Query.dataset, DataLoader.Eval.Gallery.dataset", DatasetConfig),
    ("DataLoader.….loader", LoaderConfig),
    ("AMP", AmpConfig),
    ("EMA", EmaConfig),
    ("Optimizer.regularizer", Regularizer),
    ("weight_attr, bias_attr", ParameterAttribute),
    ("weight_attr.regularizer, bias_attr.regularizer", ParameterDecay),
)
# Where a config names the parts of a kind.
_PLACES = {
    "backbone": "`Arch.Backbone` with a `name`; `Arch.BackboneStopLayer.name` is the layer that it ends with",
    "neck": "`Arch.Neck` with a `name`, or left out",
    "head": "`Arch.Head` with a `name`",
    "loss": "`Loss.Train`, a list of `- Name: {keys}`; the losses are added",
    "optimizer": "`Optimizer` with a `name`; or a list of `- Name: {scope: RecModel or a loss, keys}`",
    "schedule": "`Optimizer.lr` with a `name`",
    "sampler": "`DataLoader.….sampler` with a `name`",
    "transform": "`DataLoader.….dataset.transform_ops`, a list of `- Name: {keys}` in their order",
    "metric": "`Metric.Eval`, a list of `- Name: {keys}`; TopkAcc also in `Metric.Train`, for the log of training",
    "initializer": "`initializer` of a `weight_attr` or `bias_attr`, with a `name`",
}


def reference() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *_pages()])


def _pages() -> Iterator[str]:
    for place, block in _BLOCKS:
        yield f"## {place}\n"
        yield from _block(block)
    for kind in KINDS.values():
        yield f"## {kind.plural.capitalize()}\n\nIn {_PLACES[kind.singular]}.\n"
        yield from _block(kind.base, introduction="Keys of all of them:" if fields_of(kind.base) else "")
        for part in dict.fromkeys(kind.parts.values()):
            yield f"### {', '.join(part.variants)}\n"
            yield from _block(part, base=kind.base)


def _block(block: type[Keys], *, introduction: str = "", base: type[Keys] = Keys) -> Iterator[str]:
    """Yield the keys of a block as a table, without those that `base` has."""
    shared = fields_of(base) if base is not Keys else {}
    ignored = [f"`{key}`" for key in block.ignored if key not in base.ignored]
    text = introduction or (block.__doc__ or "").strip().splitlines()[0]
    yield text + (f" Accepted without effect: {', '.join(ignored)}." if ignored else "") + "\n"
    rows = [field for name, field in fields_of(block).items() if shared.get(name) != field]
    if rows:
        yield "| key | value | default | meaning |\n|---|---|---|---|"
        for field in rows:
            default = "" if field.needed else f"`{shown(plain(field.default))}`"
            yield f"| `{field.name}` | {describe(field.kinds)} | {default} | {field.meaning} |"
        yield ""


if __name__ == "__main__":
    sys.stdout.write(reference())
