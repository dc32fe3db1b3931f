"""Heads: from a feature to class logits. The margin heads compare directions (cosines) with class centres.

In training mode and with labels, a head applies its margin to the target logit and scales; otherwise it returns the
plain cosines. Weights have shape [feature, class], as published. Where there are very many classes, heads whose
margin changes the target only return the sums that cross entropy needs instead of logits (`fused`), and several
processes can divide the classes among them (`shard`).
"""

from __future__ import annotations

import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import heads as parts
from shitu_cli.model.cosine import cosine_logits, replace_and_scale, sample_centers
from shitu_cli.model.layers import Linear, parameter_attr
from shitu_cli.model.margin_softmax import SoftmaxSums, Targets, softmax_sums
from shitu_cli.processes.collectives import Ranks
from shitu_cli.runtime.setup import return_large_blocks

LARGE_BYTES = 128 << 20  # class centres from this size on decide how memory is managed


class FC(nn.Layer):
    """A plain linear classifier."""

    def __init__(self, part: parts.FC) -> None:
        super().__init__()
        self.in_size, self.class_num = part.embedding_size, part.class_num
        weight = parameter_attr(part.weight_attr, nn.initializer.XavierNormal())
        self.fc = Linear(part.embedding_size, part.class_num, weight, parameter_attr(part.bias_attr))

    def forward(self, x: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        return self.fc(x)


class MarginHead(nn.Layer):
    """Cosines of feature [N, D] and centres [D, C]; subclasses change them for training.

    With `sample_ratio` below 1, each step trains against that share of the classes. The positions of the labels among
    the sampled classes are then in `sampled_labels` [N, 1], for the loss.
    """

    def __init__(self, part: parts.Head, scale: float, centers: int = 1) -> None:
        super().__init__()
        embedding_size, class_num = part.embedding_size, part.class_num
        self.in_size, self.class_num, self.scale = embedding_size, class_num, scale
        self.sample_ratio = part.sample_ratio if isinstance(part, parts.Sampled) else 1.0
        self.target_only = isinstance(part, parts.TargetMargin)
        self.margin_warmup = part.margin_warmup if isinstance(part, parts.TargetMargin) else 0.0
        self.shard = part.shard if isinstance(part, parts.TargetMargin) else False
        self.large = embedding_size * class_num * centers * 4 >= LARGE_BYTES
        self.group, self.first_class = Ranks(), 0
        self.needs_all_logits = False  # as some losses do: the logits can then be neither fused nor divided
        self.progress = 1.0
        self.sampled_labels: paddle.Tensor | None = None
        if self.large and paddle.get_device() == "cpu":
            return_large_blocks()
        self.make_centers(embedding_size, class_num * centers)

    def set_progress(self, progress: float) -> None:
        """Set the share of training that is done, from 0 to 1; the training loop calls this before every step."""
        self.progress = progress

    @property
    def ramp(self) -> float:
        """The share of the margin that applies: it grows from 0 to 1 over the first `margin_warmup` of training.

        With random weights, the loss of the full angular margin is lowest where all features point away from all
        centres (where the margin is cut off), and a network does not leave that state again.
        """
        return min(1.0, self.progress / self.margin_warmup) if self.margin_warmup > 0 else 1.0

    def make_centers(self, embedding_size: int, class_num: int) -> None:
        """Create the class centres under their published name."""
        self.weight = self.create_parameter(
            [embedding_size, class_num], default_initializer=nn.initializer.XavierNormal()
        )

    def set_centers(self, means: np.ndarray) -> None:
        """Begin at the directions of `means` [C, D]; classes whose mean is zero keep their random centres."""
        lengths = np.linalg.norm(means, axis=1)
        centers = self.weight.numpy()
        seen = np.flatnonzero(lengths > 0)  # numbers, as the head may have classes that no list has
        centers[:, seen] = (means[seen] / lengths[seen, None]).T
        self.weight.set_value(centers)

    def cosines(self, x: paddle.Tensor, chosen: np.ndarray | None = None) -> paddle.Tensor:
        return cosine_logits(x, self.weight, chosen)

    def forward(self, x: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        self.sampled_labels = None
        if not self.training or labels is None:
            return self.cosines(x)
        labels = labels.reshape([-1, 1])
        if self.sample_ratio < 1:
            chosen, places = sample_centers(labels.numpy().reshape(-1), self.class_num, self.sample_ratio)
            self.sampled_labels = labels = paddle.to_tensor(places).reshape([-1, 1])
            return self.margin_logits(self.cosines(x, chosen), labels)
        return self.margin_logits(self.cosines(x), labels)

    @property
    def fused(self) -> bool:
        """Whether training calls `softmax` instead of computing logits."""
        return self.target_only and not self.needs_all_logits and (self.large or self.group.world > 1)

    def keep_classes(self, first: int, count: int, group: Ranks) -> None:
        """Keep only the centres of `count` classes from `first` on; the other processes of `group` hold the rest."""
        all_centers = self.weight
        part = self.create_parameter([self.in_size, count], default_initializer=nn.initializer.Constant())
        part.set_value(all_centers[:, first : first + count])
        # Optimiser state is keyed by the name; distributed parameters are neither broadcast nor summed over processes.
        part.name, part.is_distributed = all_centers.name, True
        self.weight, self.first_class, self.group = part, first, group

    def softmax(self, x: paddle.Tensor, labels: paddle.Tensor) -> SoftmaxSums:
        """Return what cross entropy needs of the training logits of x [N, D], without storing the logits."""
        counts = self.group.row_counts(x.shape[0])
        places = self.group.gather_rows(labels.reshape([-1]), counts).numpy() - self.first_class
        own_count, chosen = self.weight.shape[1], None
        places[(places < 0) | (places >= own_count)] = -1  # another process holds the class
        classes = self.class_num
        if self.sample_ratio < 1:
            chosen, places = sample_centers(places, own_count, self.sample_ratio)
            classes = sum(self.group.row_counts(len(chosen)))
        targets = Targets(places, counts, chosen, classes)
        return softmax_sums(x, self.weight, targets, self.target, self.scale, self.group)

    def margin_logits(self, cosines: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Return scaled logits [N, C] with the target's cosine replaced by `target(cosine)`; labels are [N, 1]."""
        target = paddle.take_along_axis(cosines, labels, 1)
        return replace_and_scale(cosines, labels, self.target(target), self.scale)

    def target(self, cosine: paddle.Tensor) -> paddle.Tensor:
        """Return what replaces the cosine of the target in training, [N, 1] → [N, 1]."""
        raise NotImplementedError


class ArcMargin(MarginHead):
    """Additive angular margin: cos(θ + m) (Deng et al. 2019, arXiv:1801.07698)."""

    def __init__(self, part: parts.ArcMargin | parts.SubCenterArcMargin, centers: int = 1) -> None:
        super().__init__(part, part.scale, centers)
        self.margin, self.easy_margin = part.margin, part.easy_margin

    def target(self, cosine: paddle.Tensor) -> paddle.Tensor:
        m = self.margin * self.ramp
        # Rounding can take a cosine beyond 1, where the root would be of a negative number: then the sine is 0.
        sine = paddle.sqrt(paddle.clip(1.0 - paddle.square(cosine), min=0.0) + 1e-6)
        shifted = cosine * math.cos(m) - sine * math.sin(m)
        if self.easy_margin:
            return paddle.where(cosine > 0, shifted, cosine)
        return paddle.where(cosine > math.cos(math.pi - m), shifted, cosine - math.sin(m) * m)


class CosMargin(MarginHead):
    """Additive cosine margin: cos θ - m (Wang et al. 2018, arXiv:1801.09414); m = 0 is the plain cosine softmax."""

    def __init__(self, part: parts.CosMargin) -> None:
        super().__init__(part, part.scale)
        self.margin = part.margin

    def target(self, cosine: paddle.Tensor) -> paddle.Tensor:
        return cosine - self.margin * self.ramp


class CircleMargin(MarginHead):
    """Circle loss with class centres (Sun et al. 2020, arXiv:2002.10857): every cosine is weighted by its error."""

    def __init__(self, part: parts.CircleMargin) -> None:
        super().__init__(part, part.scale)
        self.margin = part.margin

    def margin_logits(self, cosines: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        m = self.margin
        negative = F.relu(cosines.detach() + m) * (cosines - m)
        target = paddle.take_along_axis(cosines, labels, 1)
        positive = F.relu(1.0 + m - target.detach()) * (target - (1.0 - m))
        return replace_and_scale(negative, labels, positive, self.scale)


class SubCenterArcMargin(ArcMargin):
    """ArcMargin with several centres per class, the nearest of which counts (Deng et al. 2020): noisy labels."""

    def __init__(self, part: parts.SubCenterArcMargin) -> None:
        super().__init__(part, part.sub_centers)
        self.sub_centers = part.sub_centers

    def cosines(self, x: paddle.Tensor, chosen: np.ndarray | None = None) -> paddle.Tensor:
        every = cosine_logits(x, self.weight)
        return every.reshape([-1, self.class_num, self.sub_centers]).max(axis=-1)


class AdaMargin(MarginHead):
    """AdaFace (Kim et al. 2022, arXiv:2204.00964): margins by image quality, read from the feature's length."""

    EPS = 1e-3

    def __init__(self, part: parts.AdaMargin) -> None:
        super().__init__(part, part.s)
        self.m, self.h, self.t_alpha = part.m, part.h, part.t_alpha
        self.register_buffer("t", paddle.zeros([1]))
        self.register_buffer("batch_mean", paddle.ones([1]) * 20)
        self.register_buffer("batch_std", paddle.ones([1]) * 100)

    def make_centers(self, embedding_size: int, class_num: int) -> None:
        self.kernel = self.create_parameter(
            [embedding_size, class_num], default_initializer=nn.initializer.Uniform(-1.0, 1.0)
        )
        lengths = np.linalg.norm(self.kernel.numpy(), axis=0, keepdims=True)
        self.kernel.set_value(self.kernel.numpy() / np.maximum(lengths, 1e-5))

    def cosines(self, x: paddle.Tensor, chosen: np.ndarray | None = None) -> paddle.Tensor:
        return cosine_logits(x, self.kernel, chosen)

    def forward(self, x: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        cosines = self.cosines(x)
        if not self.training or labels is None:
            return cosines
        labels = labels.reshape([-1, 1])
        quality = self.quality(x)
        cosines = paddle.clip(cosines, -1 + self.EPS, 1 - self.EPS)
        target = paddle.take_along_axis(cosines, labels, 1)
        angle = paddle.clip(paddle.acos(target) - self.m * quality, self.EPS, math.pi - self.EPS)
        shifted = paddle.cos(angle) - (self.m + self.m * quality)
        return replace_and_scale(cosines, labels, shifted, self.scale)

    @paddle.no_grad()
    def quality(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return the feature lengths [N, 1] relative to the running mean and deviation of batches, within -1 and 1."""
        length = paddle.clip(paddle.sqrt((x * x).sum(1, keepdim=True)), 1e-3, 100.0)
        spread = length.std() if length.shape[0] > 1 else self.batch_std.reshape([])
        keep = 1 - self.t_alpha
        self.batch_mean.set_value((length.mean() * self.t_alpha).reshape([1]) + keep * self.batch_mean)
        self.batch_std.set_value((spread * self.t_alpha).reshape([1]) + keep * self.batch_std)
        return paddle.clip((length - self.batch_mean) / (self.batch_std + self.EPS) * self.h, -1.0, 1.0)
