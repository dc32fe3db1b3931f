"""The typed configuration: PaddleClas's recognition schema, as the rest of the program receives it.

Plain dataclasses without Paddle. `config/load.py` reads YAML into them and reports every problem at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Component:
    """A named part with its validated arguments: a backbone, a loss, a transform, a sampler, a schedule."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GlobalConfig:
    checkpoints: str | None = None
    pretrained_model: str | None = None
    output_dir: str = "./output"
    device: str = "auto"
    seed: int | None = None
    epochs: int = 20
    save_interval: int = 1
    eval_during_train: bool = True
    eval_interval: int = 1
    start_eval_epoch: int = 0
    print_batch_step: int = 10
    update_freq: int = 1
    iter_per_epoch: int | None = None
    use_visualdl: bool = False
    eval_mode: str = "retrieval"
    retrieval_feature_from: str = "features"
    feature_normalize: bool = True
    feature_binarize: str | None = None
    re_ranking: bool = False
    image_shape: tuple[int, int, int] = (3, 224, 224)
    save_inference_dir: str = "./inference"


@dataclass(frozen=True)
class ArchConfig:
    backbone: Component
    stop_layer: str | None = None
    neck: Component | None = None
    head: Component | None = None
    head_feature_from: str = "neck"
    infer_output_key: str | None = "features"
    infer_add_softmax: bool = False
    use_sync_bn: bool = False


@dataclass(frozen=True)
class LossItem:
    """One loss of a weighted sum."""

    name: str
    weight: float
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RegularizerConfig:
    name: str  # L1 | L2
    coeff: float


@dataclass(frozen=True)
class OptimizerConfig:
    """`args` hold what the optimiser itself takes (momentum, beta1, ...).

    `scope` is None for what trains the network and all that no other optimiser does, else the loss whose parameters
    it trains.
    """

    name: str
    lr: Component
    args: dict[str, Any] = field(default_factory=dict)
    regularizer: RegularizerConfig | None = None
    clip_norm: float | None = None
    no_weight_decay_name: tuple[str, ...] = ()
    one_dim_param_no_weight_decay: bool = False
    scope: str | None = None


@dataclass(frozen=True)
class DatasetConfig:
    """A list on disk and how its images become network input. `name` is PaddleClas's reader class."""

    name: str
    image_root: str
    cls_label_path: str
    transform_ops: tuple[Component, ...] = ()
    relabel: bool = False
    delimiter: str | None = None
    on_error: str = "raise"  # raise | skip


@dataclass(frozen=True)
class SamplerConfig:
    name: str = "DistributedBatchSampler"
    batch_size: int = 64
    shuffle: bool = False
    drop_last: bool = False
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoaderConfig:
    num_workers: int | None = None  # None: one decoding thread per core


@dataclass(frozen=True)
class SplitConfig:
    dataset: DatasetConfig
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)


@dataclass(frozen=True)
class DataLoaderConfig:
    """`query` and `gallery` are None when the config evaluates nothing; they may be the same list."""

    train: SplitConfig | None
    query: SplitConfig | None
    gallery: SplitConfig | None


@dataclass(frozen=True)
class AmpConfig:
    use_amp: bool = True
    level: str = "O1"
    dtype: str = "float16"
    scale_loss: float = 1.0
    use_dynamic_loss_scaling: bool = False


@dataclass(frozen=True)
class EmaConfig:
    decay: float = 0.9999


@dataclass(frozen=True)
class Config:
    """A whole validated configuration.

    Paths are absolute; `root` is where relative ones of the file count from (None for a config made in code).
    `origins` maps a dotted key to where its value came from, `written` the splits (train, query, gallery) that lists
    were made for (see data/reader_classes.py) to what the file says.
    """

    Global: GlobalConfig
    Arch: ArchConfig
    Loss: tuple[LossItem, ...]
    Optimizer: OptimizerConfig
    DataLoader: DataLoaderConfig
    Metric: tuple[Component, ...] = ()
    AMP: AmpConfig | None = None
    EMA: EmaConfig | None = None
    loss_optimizers: tuple[OptimizerConfig, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)
    written: dict[str, DatasetConfig] = field(default_factory=dict)
    root: Path | None = None
