"""Paths of a config: made absolute when it is read, and relative again when it is written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shitu_cli.config.source import ConfigSource
from shitu_cli.errors import ConfigError
from shitu_cli.stores import address_of
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.config.parts.losses import Loss
    from shitu_cli.config.schema import ArchConfig, Config, DatasetConfig, DistillationConfig, GlobalConfig

# PaddleClas's readers whose cls_label_path names a folder inside image_root.
FOLDER_READERS = ("Market1501", "MSMT17", "DukeMTMC")
WEIGHTS = (".pdparams", ".safetensors", ".pth", ".pt", ".npz")  # endings that the path of weights may omit


def prefix_of(checkpoint: Path) -> Path:
    """Return how the names of a checkpoint's files begin, whether or not it is named with its ending."""
    return checkpoint.with_suffix("") if checkpoint.suffix == ".pdparams" else checkpoint


def weights_of(checkpoint: Path) -> Path:
    """Return the file with the weights of a checkpoint, or of a model whose only file they are; it may be missing."""
    return checkpoint if checkpoint.is_file() else Path(f"{checkpoint}.pdparams")


def absolute(config: Config, root: Path) -> Config:
    """Return the config with absolute paths; relative ones refer to `root`, not to the current directory."""
    base = os.path.abspath(root)

    def change(text: str) -> str:
        # Keeps "..", which may mean something else after a link.
        return address_of(text) or str(Path(base, os.path.expanduser(text)))

    return dataclasses.replace(_changed(config, change), root=Path(base))


def relative(config: Config) -> Config:
    """Return the config with paths below its root relative to it, so that the workspace can be moved."""
    if config.root is None:
        return config
    base = str(config.root)

    def change(text: str) -> str:
        if address_of(text) is not None:
            return text
        plain = os.path.normpath(text)
        if plain == base:
            return "."
        inside = plain.startswith(base.rstrip(os.sep) + os.sep)
        return f"./{os.path.relpath(plain, base)}" if inside else text

    return _changed(config, change)


def _changed(config: Config, change: Callable[[str], str]) -> Config:
    return dataclasses.replace(
        config,
        Global=_globals(config.Global, change),
        Arch=_arch(config.Arch, change),
        Loss=tuple(_loss(part, change) for part in config.Loss),
        Distillation=None if config.Distillation is None else _networks(config.Distillation, change),
        DataLoader=config.DataLoader.with_datasets(lambda part: _dataset(part, change)),
        written={name: _dataset(part, change) for name, part in config.written.items()},
    )


def _globals(block: GlobalConfig, change: Callable[[str], str]) -> GlobalConfig:
    names = ("output_dir", "save_inference_dir", "checkpoints")
    paths: dict[str, Any] = {
        name: change(value) for name in names if (value := getattr(block, name)) and not is_address(value)
    }
    start = block.pretrained_model and _weights(block.pretrained_model, change)
    return dataclasses.replace(block, pretrained_model=start, **paths)


def _arch(block: ArchConfig, change: Callable[[str], str]) -> ArchConfig:
    value = block.backbone.pretrained
    if not isinstance(value, str) or not value:
        return block
    return dataclasses.replace(block, backbone=dataclasses.replace(block.backbone, pretrained=_weights(value, change)))


def _loss(part: Loss, change: Callable[[str], str]) -> Loss:
    if (teacher := getattr(part, "teacher", None)) is None:
        return part
    images = getattr(part, "unlabelled", None)
    places: dict[str, Any] = {"teacher": _source(teacher, change), "unlabelled": images and change(images)}
    return dataclasses.replace(part, **places)


def as_given(text: str) -> str:
    """Return weights from the command line for use in any folder: a file as an absolute path, all else as it is.

    What exists, contains a separator or ends like weights is a file (or an exported model); an address begins with
    https:// or http://; NETWORK=… names the network of either; all else is a published name. Paths of a config refer to
    its own folder, those of the command line to the current one.
    """
    return _source(text, lambda path: os.path.abspath(os.path.expanduser(path)))


def _source(text: str, change: Callable[[str], str]) -> str:
    network, source = split_pair(text)
    if network and os.path.exists(change(text)):  # a file with "=" in its name
        return change(text)
    return f"{network}={_weights(source, change)}" if network else _weights(source, change)


def split_pair(text: str) -> tuple[str, str]:
    """Return the network and the weights of NETWORK=FILE, ("", text) without one; addresses may contain "=" too."""
    network, pair, source = text.partition("=")
    return (network, source) if pair and network and not {"/", os.sep} & set(network) else ("", text)


def _networks(block: DistillationConfig, change: Callable[[str], str]) -> DistillationConfig:
    peers = tuple(
        dataclasses.replace(
            peer,
            arch=_arch(peer.arch, change),
            weights=None if peer.weights is None else _weights(peer.weights, change),
        )
        for peer in block.peers
    )
    weights = None if block.weights is None else _weights(block.weights, change)
    return dataclasses.replace(block, peers=peers, weights=weights)


def _weights(text: str, change: Callable[[str], str]) -> str:
    return text if _is_published(text, change) else change(text)


def _dataset(part: DatasetConfig, change: Callable[[str], str]) -> DatasetConfig:
    label_path = part.cls_label_path if part.name in FOLDER_READERS else change(part.cls_label_path)
    label_root = None if part.label_root is None else change(part.label_root)
    return dataclasses.replace(
        part, image_root=change(part.image_root), cls_label_path=label_path, label_root=label_root
    )


def _is_published(text: str, change: Callable[[str], str]) -> bool:
    """Return whether weights are given by an address or a published name rather than by a file."""
    if is_address(text):
        return True
    path = Path(change(text))
    is_name = not {"/", os.sep} & set(text) and path.suffix not in WEIGHTS
    return is_name and not any(Path(f"{path}{suffix}").exists() for suffix in ("", *WEIGHTS))


def is_address(text: str) -> bool:
    """Return whether a text is an address to download weights from."""
    return text.startswith(("http://", "https://"))


@dataclasses.dataclass(frozen=True)
class Places:
    """The absolute paths of everything in a workspace; its config may move output and exported model."""

    workspace: Workspace
    output: Path
    inference: Path

    @classmethod
    def of(cls, config: Config, workspace: Workspace | None = None) -> Places:
        """Return the places of a config; by default the workspace is the folder that its paths refer to."""
        space = workspace or Workspace(config.root or Path.cwd())
        return cls(space, Path(config.Global.output_dir), Path(config.Global.save_inference_dir))

    @classmethod
    def read(cls, workspace: Workspace) -> Places | None:
        """Return the places of a workspace, from two keys of its config, which is not checked; None without a config.

        Checking a config loads all kinds of parts, which a search would wait for longer than for its answer. Raises
        ConfigError if the file is not YAML, or if these keys are not text.
        """
        if not workspace.config_path.is_file():
            return None
        general = ConfigSource(workspace.config_path).values.get("Global")
        keys = general if isinstance(general, dict) else {}
        names = [keys.get("output_dir", "./output"), keys.get("save_inference_dir", "./inference")]
        if not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"{workspace.config_path}: Global.output_dir and Global.save_inference_dir must be paths of folders"
            )
        root = os.path.abspath(workspace.root)
        output, inference = (Path(root, os.path.expanduser(name)) for name in names)
        return cls(Workspace(Path(root)), output, inference)

    @classmethod
    def usual(cls, workspace: Workspace) -> Places:
        """Return the places of a workspace whose config cannot be read."""
        return cls(workspace, workspace.root / "output", workspace.root / "inference")

    @property
    def best(self) -> Path:
        """The best checkpoint, without the ending of its files."""
        return self.output / "best_model"

    @property
    def best_weights(self) -> Path:
        """The weights file of the best checkpoint."""
        return self.output / "best_model.pdparams"

    @property
    def manifest(self) -> Path:
        """The manifest of the exported model."""
        return self.inference / "manifest.json"
