"""The losses of training. A new one is a part here and a class in a file of `model/losses/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from shitu_cli.config.kinds import BelowOne, Count, Length, Natural, Positive, Rate, Share
from shitu_cli.config.parts.base import Part

_FILES = "shitu_cli.model.losses"
Distance = Annotated[Rate, "by how much further away images of other classes must be"]
UnitLength = Annotated[bool, "whether features are scaled to length one"]
Classes = Annotated[Count, "number of classes; `shitu prepare` counts and writes it"]
Size = Annotated[Count, "size of the feature"]


@dataclass(frozen=True)
class Loss(Part):
    """One loss of a weighted sum; those with `needs_head` look at the logits, which Arch.Head gives.

    Those that `learns` is true of have parameters of their own, which are trained.
    """

    needs_head: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    weight: Annotated[Rate, "factor in the sum of losses"] = field(default=1.0, kw_only=True)


@dataclass(frozen=True)
class CELoss(Loss, built_by=f"{_FILES}.classification"):
    """Cross entropy on the head's logits."""

    needs_head: ClassVar[bool] = True
    epsilon: Annotated[BelowOne | None, "share of the target that is spread over all classes"] = None
    reduction: Annotated[Literal["mean"], "the mean over the images of a batch"] = "mean"


@dataclass(frozen=True)
class PairLoss(Loss):
    """A loss on the features of a batch and their labels."""

    feature_from: Annotated[Literal["features", "backbone"], "which output of the network is compared"] = field(
        default="features", kw_only=True
    )


@dataclass(frozen=True)
class TripletLossV2(PairLoss, built_by=f"{_FILES}.triplet"):
    """The furthest image of the class against the nearest of another (arXiv:1703.07737)."""

    margin: Distance = 0.5
    normalize_feature: UnitLength = True


@dataclass(frozen=True)
class TripletLoss(PairLoss, built_by=f"{_FILES}.triplet"):
    """TripletLossV2 on features of any length."""

    margin: Distance = 1.0


@dataclass(frozen=True)
class TriHardLoss(PairLoss, built_by=f"{_FILES}.triplet"):
    """TripletLossV2 with squared distances."""

    ignored: ClassVar[tuple[str, ...]] = ("batch_size", "samples_each_class")
    margin: Distance = 0.1


@dataclass(frozen=True)
class MSMLoss(PairLoss, built_by=f"{_FILES}.triplet"):
    """Margin sample mining (arXiv:1710.00478): the hardest pairs of the whole batch."""

    ignored: ClassVar[tuple[str, ...]] = ("batch_size", "samples_each_class")
    margin: Distance = 0.1


@dataclass(frozen=True)
class TripletAngularMarginLoss(PairLoss, built_by=f"{_FILES}.triplet"):
    """TripletLossV2 with cosines in place of distances; PP-ShiTuV2's metric loss."""

    margin: Annotated[Rate, "by how much larger the cosine within a class must be"] = 0.5
    normalize_feature: UnitLength = True
    reduction: Annotated[Literal["mean", "sum"], "how the losses of a batch are combined"] = "mean"
    add_absolute: Annotated[bool, "whether cosines must also pass ap_value and an_value"] = False
    absolute_loss_weight: Annotated[Rate, "factor on that second part"] = 1.0
    ap_value: Annotated[float, "cosine that images of one class must reach"] = 0.9
    an_value: Annotated[float, "cosine below which images of two classes must stay"] = 0.5


@dataclass(frozen=True)
class Memory(PairLoss):
    """A loss that also compares with features of earlier batches (arXiv:1912.06798)."""

    start_iter: Annotated[Natural, "steps before the memory is used"] = field(kw_only=True)
    xbm_size: Annotated[Count, "features in the memory"] = field(kw_only=True)
    xbm_weight: Annotated[Rate, "factor on the loss against the memory"] = field(kw_only=True)


@dataclass(frozen=True)
class TripletAngularMarginLoss_XBM(Memory, TripletAngularMarginLoss, built_by=f"{_FILES}.triplet"):
    """TripletAngularMarginLoss that also compares with features of earlier batches."""

    feat_dim: Size = field(kw_only=True)


@dataclass(frozen=True)
class ContrastiveLoss(PairLoss, built_by=f"{_FILES}.contrastive"):
    """1 - cosine over pairs of a class, the cosine over pairs of two where it is above the margin."""

    ignored: ClassVar[tuple[str, ...]] = ("embedding_size",)
    margin: Annotated[Rate, "cosine up to which images of two classes cost nothing"] = 0.5
    normalize_feature: UnitLength = True
    epsilon: Annotated[Rate, "pairs closer than this count as the same image"] = 1e-5


@dataclass(frozen=True)
class ContrastiveLoss_XBM(Memory, ContrastiveLoss, built_by=f"{_FILES}.contrastive"):
    """ContrastiveLoss that also compares with features of earlier batches."""

    ignored: ClassVar[tuple[str, ...]] = ()
    embedding_size: Size = field(kw_only=True)


@dataclass(frozen=True)
class SupConLoss(PairLoss, built_by=f"{_FILES}.contrastive"):
    """Supervised contrastive loss (arXiv:2004.11362)."""

    ignored: ClassVar[tuple[str, ...]] = ("views",)
    temperature: Annotated[Positive, "what cosines are divided by; smaller looks at harder pairs"] = 0.07
    contrast_mode: Annotated[Literal["all"], "which images are anchors"] = "all"
    base_temperature: Annotated[Positive, "temperature whose size of the loss is kept"] = 0.07
    normalize_feature: UnitLength = True


@dataclass(frozen=True)
class PairwiseCosface(PairLoss, built_by=f"{_FILES}.contrastive"):
    """Circle loss on pairs (arXiv:2002.10857)."""

    margin: Annotated[Rate, "margin between cosines within a class and across classes"]
    gamma: Annotated[Positive, "factor on the cosines"]


@dataclass(frozen=True)
class MultiSimilarity(PairLoss, built_by=f"{_FILES}.contrastive"):
    """Multi-similarity loss with its pair mining (arXiv:1904.06627)."""

    alpha: Annotated[Positive, "how much hard pairs of a class count"] = 2.0
    beta: Annotated[Positive, "how much hard pairs of two classes count"] = 50.0
    base: Annotated[float, "cosine that lies between the two"] = 0.5
    epsilon: Annotated[Rate, "margin of the pair mining"] = 0.1


@dataclass(frozen=True)
class EmlLoss(PairLoss, built_by=f"{_FILES}.contrastive"):
    """Ensemble metric learning (arXiv:1212.6094), on features of any length."""

    ignored: ClassVar[tuple[str, ...]] = ("batch_size", "samples_each_class")


@dataclass(frozen=True)
class NpairsLoss(PairLoss, built_by=f"{_FILES}.contrastive"):
    """N-pair loss (Sohn 2016)."""

    reg_lambda: Annotated[Rate, "factor on the mean squared length of the features"] = 0.01


@dataclass(frozen=True)
class CenterLoss(PairLoss, built_by=f"{_FILES}.centers"):
    """Squared distance of a feature to its trained class centre (Wen et al. 2016)."""

    learns: ClassVar[bool] = True
    num_classes: Classes
    feat_dim: Size


@dataclass(frozen=True)
class ProxyAnchor(PairLoss, built_by=f"{_FILES}.centers"):
    """Proxy anchor loss (arXiv:2003.13911): every class has a trained proxy."""

    learns: ClassVar[bool] = True
    num_classes: Classes
    feat_dim: Size
    margin: Annotated[Rate, "margin on the cosines"] = 0.1
    alpha: Annotated[Positive, "factor on the cosines"] = 32.0


@dataclass(frozen=True)
class Hashing(PairLoss):
    """A loss for features whose signs are compared: Global.feature_binarize: sign."""

    ignored: ClassVar[tuple[str, ...]] = ("n_class",)  # the labels of a batch say it
    not_supported: ClassVar[Mapping[str, Any]] = {"multi_label": None}


@dataclass(frozen=True)
class DSHSDLoss(Hashing, built_by=f"{_FILES}.hashing"):
    """Stable distribution hashing (doi:10.1109/ACCESS.2019.2900489): cross entropy, and distances between pairs."""

    needs_head: ClassVar[bool] = True
    alpha: Annotated[Rate, "factor on the distances"]


@dataclass(frozen=True)
class LCDSHLoss(Hashing, built_by=f"{_FILES}.hashing"):
    """Locality-constrained hashing (doi:10.24963/ijcai.2017/499)."""

    _lambda: Annotated[Rate, "factor on what the signs change"]


@dataclass(frozen=True)
class DCHLoss(Hashing, built_by=f"{_FILES}.hashing"):
    """Deep Cauchy hashing (Cao et al., CVPR 2018)."""

    gamma: Annotated[Positive, "distance in bits at which pairs count half"]
    _lambda: Annotated[Rate, "factor on how far values are from -1 and 1"]


Pairs = Annotated[
    tuple[Annotated[tuple[str, ...], Length(2)], ...],
    "pairs of networks of Arch.models: the one that learns and the one that it learns from",
]


@dataclass(frozen=True)
class NetworkLoss(Loss):
    """A loss between networks that are trained together (`Arch.name: DistillationModel`)."""

    ignored: ClassVar[tuple[str, ...]] = ("name",)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that it looks at."""
        raise NotImplementedError

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.networks:
            yield "", "names no network"

    @property
    def compares_logits(self) -> bool:
        """Whether it needs the logits of all classes from several networks."""
        return False


@dataclass(frozen=True)
class DistillationGTCELoss(NetworkLoss, built_by=f"{_FILES}.distillation"):
    """CELoss for each of several networks."""

    model_names: Annotated[tuple[str, ...], "networks of Arch.models that learn the labels"]
    epsilon: Annotated[BelowOne | None, "share of the target that is spread over all classes"] = None
    key: Annotated[Literal["logits", None], "which output of the networks is used"] = "logits"

    @property
    def networks(self) -> tuple[str, ...]:
        return self.model_names


@dataclass(frozen=True)
class PairDistillation(NetworkLoss):
    """A loss between the outputs of two networks, summed over all pairs."""

    model_name_pairs: Pairs = field(kw_only=True)
    key: Annotated[Literal["logits", "features", "backbone"], "which output of the networks is compared"] = field(
        default="logits", kw_only=True
    )

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(name for pair in self.model_name_pairs for name in pair)

    @property
    def compares_logits(self) -> bool:
        return self.key == "logits"


@dataclass(frozen=True)
class DistillationDMLLoss(PairDistillation, built_by=f"{_FILES}.distillation"):
    """Deep mutual learning (arXiv:1706.00384): half the Kullback-Leibler divergence each way."""

    not_supported: ClassVar[Mapping[str, Any]] = {"weight_ratio": None, "sum_across_class_dim": None}  # of many labels
    act: Annotated[Literal["softmax", "sigmoid"], "how logits become probabilities"] = "softmax"


@dataclass(frozen=True)
class DistillationCELoss(PairDistillation, built_by=f"{_FILES}.distillation"):
    """Cross entropy with the other network's probabilities as the target."""

    not_supported: ClassVar[Mapping[str, Any]] = {"epsilon": None}


@dataclass(frozen=True)
class DistillationDistanceLoss(PairDistillation, built_by=f"{_FILES}.distillation"):
    """The mean difference of two outputs, value by value."""

    not_supported: ClassVar[Mapping[str, Any]] = {"reduction": "mean"}
    mode: Annotated[Literal["l1", "l2", "smooth_l1"], "absolute, squared, or squared up to 1 only"] = "l2"


@dataclass(frozen=True)
class DistillationKLDivLoss(PairDistillation, built_by=f"{_FILES}.distillation"):
    """Divergence from the other network's softened probabilities (arXiv:1503.02531)."""

    temperature: Annotated[Positive, "what logits are divided by; larger looks at the other classes more"] = 4.0


@dataclass(frozen=True)
class DistillationDKDLoss(PairDistillation, built_by=f"{_FILES}.distillation"):
    """Decoupled distillation (arXiv:2203.08679): the label against the rest, and the rest among itself."""

    not_supported: ClassVar[Mapping[str, Any]] = {"use_target_as_gt": None}
    temperature: Annotated[Positive, "what logits are divided by"] = 1.0
    alpha: Annotated[Rate, "factor on the label against the rest"] = 1.0
    beta: Annotated[Rate, "factor on the rest among itself"] = 1.0


@dataclass(frozen=True)
class TeacherLoss(Loss, built_by=f"{_FILES}.teacher"):
    """Learn from a trained network (`train --teacher`): its probabilities of the classes, and its features.

    The loss is weight × (soft_labels × cross entropy with the probabilities + features × (1 - cosine to the feature));
    CELoss counts 1 - soft_labels of its own weight. Of an image without a label, the probabilities count whole.
    """

    teacher: Annotated[str, "an exported model, a checkpoint, NETWORK=FILE, or a name of shitu weights list"]
    views: Annotated[
        Count, "random crops of each image, which come again and again: the teacher looks at each once"
    ] = 8
    soft_labels: Annotated[Share, "how much of the labels the teacher gives; 0: features only, for any head"] = 0.5
    features: Annotated[Rate, "factor on 1 - cosine to the teacher's feature; 0: soft labels only"] = 4.0
    temperature: Annotated[
        Positive | None, "divides the teacher's cosines with the classes; null: what makes its probabilities likeliest"
    ] = None
    unlabelled: Annotated[
        str | None, "folder or list of images without labels, which the teacher alone judges; half of each batch"
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.soft_labels and not self.features:
            yield "features", "got 0, as soft_labels: then nothing is learnt from the teacher"


def factors(losses: Sequence[Loss]) -> list[float]:
    """Return the factor of each loss in the sum: its weight, less what soft labels take from that of the labels."""
    soft = max((loss.soft_labels for loss in losses if isinstance(loss, TeacherLoss)), default=0.0)
    return [loss.weight * (1 - soft if isinstance(loss, CELoss) else 1) for loss in losses]
