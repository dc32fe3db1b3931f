"""The typed configuration, with the blocks of PaddleClas's recognition schema.

Plain dataclasses without Paddle. `config/load.py` reads YAML into them and reports every problem at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from shitu_cli.config.kinds import NO_KEY, BelowOne, Count, Keys, Length, Natural, Positive, Range
from shitu_cli.config.parts import losses, metrics, optimizers
from shitu_cli.config.parts.backbones import Backbone
from shitu_cli.config.parts.heads import Head
from shitu_cli.config.parts.necks import Neck
from shitu_cli.config.parts.samplers import DistributedBatchSampler, Sampler
from shitu_cli.config.parts.transforms import Transform

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class GlobalConfig(Keys):
    """Settings of a whole run."""

    ignored: ClassVar[tuple[str, ...]] = (
        *("to_static", "class_num", "vdl_dir", "infer_imgs", "save_dir", "rank", "log_ranks", "eval_batch_size"),
        "sim_block_size",
        # What PaddleX writes into its configs about its own files.
        *("pdx_model_name", "uniform_output_enabled", "export_with_pir", "hpi_config_path", "print_mem_info"),
    )

    checkpoints: Annotated[str | None, "checkpoint to resume from; `shitu train --resume` finds its own"] = None
    pretrained_model: Annotated[str | None, "weights of the whole network to start from"] = None
    output_dir: Annotated[str, "folder for checkpoints and logs"] = "./output"
    device: Annotated[str, "auto, cpu, gpu or gpu:1"] = "auto"
    seed: Annotated[Natural | None, "seed of all random numbers; null: 0"] = None
    epochs: Annotated[Count, "how many times training goes through the images"] = 20
    save_interval: Annotated[
        int, Range(-1), "epochs from one save to the next; 0 and -1, with which PaddleClas keeps no epoch_N, mean 1"
    ] = 1
    eval_during_train: Annotated[bool, "whether to evaluate during training"] = True
    eval_interval: Annotated[Count, "epochs from one evaluation to the next"] = 1
    start_eval_epoch: Annotated[Natural, "epochs before the first evaluation"] = 0
    print_batch_step: Annotated[Count, "steps from one line of the log to the next"] = 10
    update_freq: Annotated[Count, "batches whose gradients are added up for one step"] = 1
    iter_per_epoch: Annotated[
        Count | None, "batches of an epoch, in several passes if the images make fewer; null: one pass"
    ] = None
    early_stop: Annotated[
        Count | None, "training ends after this many evaluations without a better one; null: never"
    ] = None
    projection: Annotated[
        bool, "whether evaluations try a closed-form projection of the features, which best_model then has as its neck"
    ] = False
    use_visualdl: Annotated[bool, "whether to write curves for VisualDL"] = False
    eval_mode: Annotated[
        Literal["retrieval", "classification", None],
        "retrieval: queries look for their class in a gallery; classification: how often the head is right; null: what "
        "Metric.Eval asks for",
    ] = None
    retrieval_feature_from: Annotated[Literal["features", "backbone"], "which output is compared"] = "features"
    feature_normalize: Annotated[bool, "whether features are scaled to length one"] = True
    feature_binarize: Annotated[Literal["round", "sign", None], "how features become bits"] = None
    re_ranking: Annotated[bool, "whether to rank neighbours again by their own neighbours (k-reciprocal)"] = False
    spare_classes: Annotated[
        bool, "whether the head may have more classes than the training list, as in PaddleClas"
    ] = False
    image_shape: Annotated[tuple[Count, ...], Length(3), "channels, height and width of an image"] = (3, 224, 224)
    save_inference_dir: Annotated[str, "folder for the exported model"] = "./inference"

    @property
    def ranks_by_cosine(self) -> bool:
        """Whether evaluations rank by the cosines that a search gives."""
        return self.feature_normalize and not self.feature_binarize and not self.re_ranking

    def problems(self) -> Iterator[tuple[str, str]]:
        if (kind := self.device.partition(":")[0]) in ("xpu", "npu", "mlu", "gcu", "dcu"):
            yield "device", f"got {kind}, which exists in PaddleClas, but not here: cpu or gpu"
        if self.feature_binarize == "round" and self.feature_normalize:
            yield (
                "feature_binarize",
                "round is for features between 0 and 1; at length one nearly all become 0: use sign, or set "
                "Global.feature_normalize to false",
            )


@dataclass(frozen=True)
class ArchConfig(Keys):
    """The network: backbone, neck and head."""

    ignored: ClassVar[tuple[str, ...]] = ("is_rec", "infer_binarize", "class_num")

    backbone: Backbone = field(metadata=NO_KEY)
    stop_layer: str | None = field(default=None, metadata=NO_KEY)
    neck: Neck | None = field(default=None, metadata=NO_KEY)
    head: Head | None = field(default=None, metadata=NO_KEY)
    head_feature_from: Annotated[Literal["neck", "backbone"], "whose output the head receives"] = "neck"
    infer_output_key: Annotated[Literal["features", None], "only features are exported"] = "features"
    infer_add_softmax: Annotated[Literal[False], "features are exported, not class probabilities"] = False
    use_sync_bn: Annotated[bool, "whether several processes share batch norm statistics"] = False


@dataclass(frozen=True)
class Peer:
    """A network of `Arch.models` besides the student: it is trained with it, or only teaches it if it is `frozen`.

    `weights` are those of its whole network, from `pretrained_list`.
    """

    name: str
    arch: ArchConfig
    frozen: bool = False
    weights: str | None = None


@dataclass(frozen=True)
class DistillationConfig:
    """Several networks in one run (`Arch.name: DistillationModel`), of which only the student is kept.

    The student is `Config.Arch`; `student` is its name in `Arch.models`, `weights` what `pretrained_list` has for it.
    """

    student: str
    peers: tuple[Peer, ...]
    weights: str | None = None


@dataclass(frozen=True)
class DatasetConfig(Keys):
    """A list on disk, and how its images become input of the network. `name` is PaddleClas's reader class."""

    ignored: ClassVar[tuple[str, ...]] = ("batch_transform_ops_none", "backend")

    name: Annotated[
        # Lists of path, label and maybe camera, and what data/reader_classes.py turns into such lists.
        Literal[
            "ImageNetDataset",
            "VeriWild",
            "ICartoonDataset",
            "GoodsDataset",
            "AliProductDataset",
            "LogoDataset",
            "CompCars",
            "Market1501",
            "MSMT17",
            "DukeMTMC",
        ],
        "how to read the list: ImageNetDataset by default, or PaddleClas's class for a data set",
    ]
    image_root: Annotated[str, "folder to which the paths in the list are relative"]
    cls_label_path: Annotated[str, "the list: path, tab, label on each line"]
    transform_ops: tuple[Transform, ...] = field(default=(), metadata=NO_KEY)
    relabel: Annotated[bool, "whether to number the labels anew, without gaps"] = False
    delimiter: Annotated[str | None, "separator of the columns; null: a tab, else the last spaces"] = None
    on_error: Annotated[Literal["raise", "skip"], "what to do with an image that cannot be read"] = "raise"
    ids: Annotated[bool, "whether the list's third column is the camera or sequence of an image"] = True
    label_root: Annotated[str | None, "CompCars: folder of the files that say where the car is"] = None
    bbox_crop: Annotated[bool, "CompCars: whether to cut the car out"] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.bbox_crop and self.label_root is None:
            yield "bbox_crop", "got true, but label_root does not say where the boxes are"
        if self.name != "CompCars" and (self.bbox_crop or self.label_root is not None):
            yield "name", f"got {self.name}, but bbox_crop and label_root are for CompCars"
        yield from _scaling_problems([op.name for op in self.transform_ops])


def _scaling_problems(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with ToTensor, which scales pixels to 0 to 1, and Normalize, which takes them so."""
    at = names.index("ToTensor") if "ToTensor" in names else len(names)
    if "Normalize" in names[:at]:
        yield (
            f"transform_ops.{names.index('Normalize')}.Normalize",
            "needs ToTensor before it, which scales pixels to 0 to 1; NormalizeImage scales them itself",
        )
    if at < len(names) and not {"Normalize", "NormalizeImage"}.intersection(names[at:]):
        yield (
            f"transform_ops.{at}.ToTensor",
            "needs Normalize after it; NormalizeImage: {mean: [0, 0, 0], std: [1, 1, 1]} is what ToTensor does alone",
        )


@dataclass(frozen=True)
class LoaderConfig(Keys):
    """How images are read."""

    ignored: ClassVar[tuple[str, ...]] = ("use_shared_memory", "prefetch_factor", "persistent_workers")
    num_workers: Annotated[Natural | None, "threads that decode images; null: one per core"] = None


@dataclass(frozen=True)
class SplitConfig:
    """One list with its batches."""

    dataset: DatasetConfig
    sampler: Sampler = field(default_factory=DistributedBatchSampler)
    loader: LoaderConfig = field(default_factory=LoaderConfig)


@dataclass(frozen=True)
class DataLoaderConfig:
    """`query` and `gallery` are None when the config evaluates nothing; they may be the same list."""

    train: SplitConfig | None
    query: SplitConfig | None
    gallery: SplitConfig | None

    @property
    def splits(self) -> dict[str, SplitConfig]:
        """The splits that there are, by their names."""
        return {name: split for name in SPLITS if (split := getattr(self, name)) is not None}

    def with_datasets(
        self, change: Callable[[DatasetConfig], DatasetConfig], names: Collection[str] = SPLITS
    ) -> DataLoaderConfig:
        """Return the loaders with the dataset that `change` returns for that of each split in `names`."""
        splits = {name: split for name, split in self.splits.items() if name in names}
        return replace(self, **{name: replace(split, dataset=change(split.dataset)) for name, split in splits.items()})

    @property
    def as_deployed(self) -> SplitConfig | None:
        """The split that prepares images as a search will: the query's, else the gallery's, else that of training."""
        return self.query or self.gallery or self.train


@dataclass(frozen=True)
class AmpConfig(Keys):
    """Automatic mixed precision on GPUs."""

    ignored: ClassVar[tuple[str, ...]] = ("use_promote", "use_fp16_test")

    use_amp: Annotated[bool, "whether it is on"] = True
    level: Annotated[Literal["O1", "O2"], "O1: some operations, O2: nearly all"] = "O1"
    dtype: Annotated[Literal["float16", "bfloat16"], "the smaller type"] = "float16"
    scale_loss: Annotated[Positive, "factor on the loss, which keeps small gradients from vanishing"] = 1.0
    use_dynamic_loss_scaling: Annotated[bool, "whether that factor adapts"] = False


@dataclass(frozen=True)
class EmaConfig(Keys):
    """A running mean of the weights, which is evaluated and exported instead of them."""

    decay: Annotated[BelowOne, "share of the mean that each step keeps"] = 0.9999


@dataclass(frozen=True)
class Config:
    """A whole validated configuration.

    Paths are absolute; `root` is the folder to which relative ones refer (None for a config made in code). `origins`
    maps a dotted key to the origin of its value. `Arch` is the network that is kept, also where `Distillation` trains
    it together with others; `train_metrics` is Metric.Train; `written` maps a split (train, query, gallery) whose list
    was made by data/reader_classes.py to what the file says. `notes` tell the user how this program reads the file
    differently than PaddleClas.
    """

    Global: GlobalConfig
    Arch: ArchConfig
    Loss: tuple[losses.Loss, ...]
    Optimizer: optimizers.Optimizer
    DataLoader: DataLoaderConfig
    Metric: tuple[metrics.Metric, ...] = ()
    train_metrics: tuple[metrics.TopkAcc, ...] = ()
    AMP: AmpConfig | None = None
    EMA: EmaConfig | None = None
    Distillation: DistillationConfig | None = None
    loss_optimizers: tuple[optimizers.Optimizer, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)
    written: dict[str, DatasetConfig] = field(default_factory=dict)
    root: Path | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def score(self) -> str:
        """The figure by which the best weights are chosen: the first of Metric.Eval, else recall@1."""
        if self.classifies:
            return "top1"
        return self.Metric[0].figure if self.Metric and not self.Global.projection else "recall@1"

    @property
    def evaluates(self) -> bool:
        """Whether training evaluates: that is wanted, and there are lists for it."""
        loaders = self.DataLoader
        return self.Global.eval_during_train and loaders.query is not None and loaders.gallery is not None

    @property
    def classifies(self) -> bool:
        """Whether evaluations measure how often the head is right, instead of retrieval."""
        if self.Global.eval_mode is not None:
            return self.Global.eval_mode == "classification"
        # PaddleClas's short form has one list, on which a classifier is measured; query and gallery are for retrieval.
        is_one = self.DataLoader.query == self.DataLoader.gallery and self.Arch.head is not None
        return is_one and bool(self.Metric) and all(metric.name == "TopkAcc" for metric in self.Metric)
