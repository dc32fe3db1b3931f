"""Export published weights as a model, for searching before anything is trained.

The network is traced and proven once, like a trained one, and kept in the cache beside the weights.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli import __version__
from shitu_cli.config.dump import arch_block
from shitu_cli.config.load import load_config, parse_arch
from shitu_cli.config.parts import KINDS, transforms
from shitu_cli.config.parts.backbones import OfPaddleClas, OfTimm
from shitu_cli.config.reader import make_part
from shitu_cli.config.schema import ArchConfig
from shitu_cli.data.transforms import build_transforms
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.features.manifest import MANIFEST, read_manifest
from shitu_cli.files import sha256_of
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.templates import templates_dir
from shitu_cli.weights.caches import cache_dir, published_as, writing
from shitu_cli.weights.catalogue import CATALOGUE, published_for
from shitu_cli.weights.files import read_weights
from shitu_cli.weights.published import Published
from shitu_cli.weights.store import Located, obtain, rehearses, split_start

if TYPE_CHECKING:
    import paddle

    from shitu_cli.deployment.run import Exported, ExportOptions, TrainedNetwork


def export_pretrained(what: str, reporter: Reporter | None = None) -> Path:
    """Return the directory of an exported network with published weights; it is exported at first use.

    `what` is a name from the catalogue, or NETWORK=FILE or NETWORK=ADDRESS for other weights. While `rehearsing`, the
    export is removed when the process ends. Raises UsageError for unknown names, DataError for weights that do not fit,
    EnvironmentProblem if they cannot be downloaded or written.
    """
    reporter = reporter or SilentReporter()
    entry, located = _find(what, reporter)
    key = hashlib.sha256(f"{__version__} {entry.network} {entry.image_size} {sha256_of(located.path)}".encode())
    folder = cache_dir() / "exported" / f"{entry.name}-{entry.image_size}-{key.hexdigest()[:12]}"
    if (folder / MANIFEST).is_file():
        with contextlib.suppress(DataError):  # a damaged one is written again
            read_manifest(folder)
            return folder
    setup_paddle("cpu")
    from shitu_cli.deployment.run import ExportOptions

    if rehearses():
        folder = _passing_folder() / folder.name
    effect = "only to measure it" if rehearses() else "only the first time"
    reporter.info(f"exporting {entry.name} ({entry.network}, {entry.image_size} px, {located.origin}); {effect}")
    # It is run like a network in memory, which is not proven in a new process either: that would take a minute.
    with writing(folder):
        _write(entry, located, folder, ExportOptions(formats=("pdmodel",), proven=False), reporter)
    return folder


def write_pretrained(what: str, out: Path, options: ExportOptions, reporter: Reporter | None = None) -> Exported:
    """Write the network of published weights to `out`, proven on drawn images; `what` as in export_pretrained.

    Raises the errors of export_pretrained and those of an export.
    """
    reporter = reporter or SilentReporter()
    entry, located = _find(what, reporter)
    setup_paddle("cpu")
    return _write(entry, located, out, options, reporter)


def _passing_folder() -> Path:
    """Return a new folder that is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="shitu-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _write(entry: Published, located: Located, out: Path, options: ExportOptions, reporter: Reporter) -> Exported:
    from shitu_cli.deployment.drawn import drawn_images
    from shitu_cli.deployment.run import export_network

    if entry.name not in CATALOGUE:
        entry = _as_the_file_is(entry, located, reporter)
    trained = _trained(entry, located)
    for remark in getattr(trained.network, "backbone", trained.network).start_remarks:
        reporter.warn(remark)
    return export_network(trained, *drawn_images(trained.transform_ops), out, options)


def _find(what: str, reporter: Reporter) -> tuple[Published, Located]:
    """Return the weights that `what` means and their entry in the catalogue, or a new entry for weights of others."""
    start = split_start(what)
    located = obtain(start.source, reporter)
    return (_entry_for(start.network, located) if start.network else _entry_of(located, what)), located


def _entry_of(located: Located, what: str) -> Published:
    """Return the catalogue entry of a file; raise UsageError if the file does not say which it is."""
    if located.published is not None:
        return located.published
    if (entry := published_as(located.path)) is not None:
        return entry
    raise UsageError(
        f"{what}: the file does not say which network it belongs to",
        hint=[f"name it: NETWORK={what} (", Command("models"), " lists the networks)"],
    )


def _entry_for(network: str, located: Located) -> Published:
    """Return an entry for the weights of others: a bare backbone, whose images are prepared as for published weights.

    Without any for this network, images are normalised like those of ImageNet.
    """
    part = make_part("backbone", network)
    similar = next(iter([*published_for(network), *published_for(part.published_name)]), None)
    name = f"{network}-{located.path.stem}"
    if similar is not None:
        return replace(similar, name=name, network=network, recognition=False, template=None, neck=None)
    side = getattr(part, "input_size", (224,))[0]
    return Published(name, network, "weights of others", (), image_size=side)


def _as_the_file_is(entry: Published, located: Located, reporter: Reporter) -> Published:
    """Return the entry of other weights with the template whose neck the file has too; tell how it was understood."""
    file = read_weights(located.path)
    neck = {name: list(array.shape) for name, array in file.arrays.items() if name.startswith("neck.")}
    for other in CATALOGUE.values() if neck else ():
        if other.network == entry.network and (other.template or other.neck) and _neck_of(other) == neck:
            for remark in file.remarks:
                reporter.info(remark)
            return replace(entry, template=other.template, neck=other.neck)
    if neck:
        reporter.warn(
            [
                f"{located.path.name} holds a whole recognition model; only its backbone is used here. To search with "
                "all of it, where its config is: ",
                Command("export", "--checkpoint", located.path),
            ]
        )
    mean, std = ([round(value, 4) for value in values] for values in (entry.mean, entry.std))
    reporter.info(
        f"images for it are resized to {entry.image_size} px ({entry.interpolation}) and normalised with mean {mean} "
        f"and standard deviation {std}"
    )
    return entry


def _neck_of(entry: Published) -> dict[str, list[int]]:
    """Return the parameters of an entry's neck and their shapes."""
    neck = _arch(entry).neck
    state = {} if neck is None else neck.build().state_dict()
    return {f"neck.{name}": list(parameter.shape) for name, parameter in state.items()}


def _trained(entry: Published, located: Located) -> TrainedNetwork:
    from shitu_cli.deployment.run import TrainedNetwork

    arch = _arch(entry)
    whole = entry.template is not None or entry.neck is not None  # all of these are trained with ImageNet's values
    mean, std = (transforms.IMAGENET_MEAN, transforms.IMAGENET_STD) if whole else (entry.mean, entry.std)
    ops = (
        transforms.DecodeImage(to_rgb=True, channel_first=False),
        transforms.ResizeImage(size=entry.image_size, interpolation=entry.interpolation),
        transforms.NormalizeImage(scale=1 / 255, mean=mean, std=std),
    )
    return TrainedNetwork(
        network=_network(arch, entry, located.path),
        arch=arch_block(arch),
        source={"pretrained": entry.name, "sha256": sha256_of(located.path), "trained_on": entry.trained_on},
        transform_ops=ops,
        normalization=build_transforms(ops).normalize,
    )


def _arch(entry: Published) -> ArchConfig:
    """Return the network up to the feature: of recognition models with the neck, of others up to the pooled map."""
    if entry.template is not None:
        arch = load_config(templates_dir() / f"{entry.template}.yaml").Arch
        return replace(arch, head=None)
    backbone: dict[str, object] = {"name": entry.network}
    if entry.network.startswith("vit_"):
        backbone["img_size"] = entry.image_size
    block: dict[str, object] = {"Backbone": backbone}
    part = KINDS["backbone"].find(entry.network)
    if part is not None and issubclass(part, OfPaddleClas) and not issubclass(part, OfTimm):
        block["BackboneStopLayer"] = {"name": "flatten"}  # PaddleClas's networks end in their classifier
    if entry.neck is not None:
        block["Neck"] = {"name": "FC", "embedding_size": entry.neck[0], "class_num": entry.neck[1]}
    return parse_arch(block)


def _network(arch: ArchConfig, entry: Published, weights: Path) -> paddle.nn.Layer:
    from shitu_cli.model import build_rec_model
    from shitu_cli.model.misfit import UnfitWeights
    from shitu_cli.model.weights import load_backbone, load_weights

    model = build_rec_model(arch)
    try:
        if arch.neck is not None:
            load_weights(model, weights, allow_missing_prefixes=("head.",))
        else:
            model.backbone.start_remarks = load_backbone(model.backbone, weights)
    except UnfitWeights as error:
        raise DataError(
            error.message,
            details=error.details,
            hint=[
                "name the network that the file belongs to: --pretrained NETWORK=FILE; ",
                Command("models"),
                " lists them",
            ],
        ) from None
    model.eval()
    return model
