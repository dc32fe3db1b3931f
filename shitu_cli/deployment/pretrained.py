"""Export published weights as a model, for searching before anything is trained.

The network is traced and proven once, like a trained one, and kept in the cache beside the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shitu_cli import __version__
from shitu_cli.config.dump import arch_block
from shitu_cli.config.load import load_config, parse_arch
from shitu_cli.config.parts import transforms
from shitu_cli.config.places import is_pair
from shitu_cli.config.schema import ArchConfig
from shitu_cli.data.transforms import build_transforms
from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.features.manifest import MANIFEST, read_manifest
from shitu_cli.files import sha256_of
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.templates import templates_dir
from shitu_cli.weights.catalogue import CATALOGUE, Published
from shitu_cli.weights.store import Located, cache_dir, obtain

if TYPE_CHECKING:
    import paddle

    from shitu_cli.deployment.run import Exported, ExportOptions, TrainedNetwork


def export_pretrained(what: str, reporter: Reporter | None = None) -> Path:
    """Return the directory of an exported network with published weights; it is exported at first use.

    `what` is a name from the catalogue, or NETWORK=FILE or NETWORK=ADDRESS for other weights. Raises UsageError for
    unknown names, DataError for weights that do not fit, EnvironmentProblem if they cannot be downloaded or written.
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

    reporter.info(
        f"exporting {entry.name} ({entry.network}, {entry.image_size} px, {located.origin}); only the first time"
    )
    # It is run like a network in memory, which is not proven in a new process either: that would take a minute.
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


def _write(entry: Published, located: Located, out: Path, options: ExportOptions, reporter: Reporter) -> Exported:
    from shitu_cli.deployment.drawn import drawn_images
    from shitu_cli.deployment.run import export_network

    trained = _trained(entry, located)
    left_new = getattr(trained.network, "backbone", trained.network).left_new
    if left_new:
        reporter.warn(f"{len(left_new)} layers are not in the weights and stay random, such as {left_new[0]}")
    return export_network(trained, *drawn_images(trained.transform_ops), out, options)


def _find(what: str, reporter: Reporter) -> tuple[Published, Located]:
    """Return the weights that `what` means and their entry in the catalogue, or a new entry for weights of others."""
    network, _, source = what.rpartition("=") if is_pair(what) else ("", "", what)
    located = obtain(source, reporter)
    return _entry(located, network, what), located


def _entry(located: Located, network: str, what: str) -> Published:
    """Return the catalogue entry of a file, or a new entry for the network that was named."""
    if network:
        similar = next((entry for entry in CATALOGUE.values() if entry.network == network), None)
        if similar is None:
            raise UsageError(f"{what}: no network is called {network}", hint=Command("models"))
        return replace(similar, name=f"{network}-{located.path.stem}", recognition=False)
    if located.published is not None:
        return located.published
    name = located.path.name
    for entry in CATALOGUE.values():
        if name in (entry.file_name, *(address.rpartition("/")[2] for address in entry.addresses if not entry.hub)):
            return entry
    raise UsageError(
        f"{what}: the file does not say which network it belongs to",
        hint=[f"name it: NETWORK={what} (", Command("models"), " lists the networks)"],
    )


def _trained(entry: Published, located: Located) -> TrainedNetwork:
    from shitu_cli.deployment.run import TrainedNetwork

    arch = _arch(entry)
    mean, std = (transforms.IMAGENET_MEAN, transforms.IMAGENET_STD) if entry.template else (entry.mean, entry.std)
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
    if not (entry.hub or entry.package):  # PaddleClas's networks end in their classifier
        block["BackboneStopLayer"] = {"name": "flatten"}
    return parse_arch(block)


def _network(arch: ArchConfig, entry: Published, weights: Path) -> paddle.nn.Layer:
    from shitu_cli.model import build_rec_model
    from shitu_cli.model.weights import load_weights

    if entry.template is not None:
        model = build_rec_model(arch)
        load_weights(model, weights, allow_missing_prefixes=("head.",))
    else:
        model = build_rec_model(replace(arch, backbone=replace(arch.backbone, pretrained=str(weights))))
    model.eval()
    return model
