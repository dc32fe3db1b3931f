"""The PyTorch side of train_speed.py: the same network with the same weights, images and steps, in its own process.

    python benchmarks/train_speed_torch.py start.npz STEPS "PyTorch, channels last" THREADS [NETWORK]

Needs PyTorch and numpy; for a NETWORK of timm, which is tuned, also timm. Without it, the network is PP-LCNet.
`start.npz` holds the weights by their names in Paddle, `images`, `labels`, and the names that are `fixed`.
"""

import json
import math
import resource
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Weights = dict[str, torch.Tensor]
FIRST_STRIDES = {"conv1": 2, "blocks2": 1, "blocks3": 2, "blocks4": 2, "blocks5": 2, "blocks6": 2}


class ConvNorm(nn.Module):
    """Convolution, batch norm, hardswish; the shape follows from the weights."""

    def __init__(self, weights: Weights, name: str, stride: int) -> None:
        super().__init__()
        out, inside, kernel, _ = weights[f"{name}.conv.weight"].shape
        groups = out if inside == 1 else 1
        self.conv = nn.Conv2d(inside * groups, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.conv.weight.data.copy_(weights[f"{name}.conv.weight"])
        self.bn.weight.data.copy_(weights[f"{name}.bn.weight"])
        self.bn.bias.data.copy_(weights[f"{name}.bn.bias"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(self.bn(self.conv(x)), inplace=True)


class SqueezeExcite(nn.Module):
    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        squeezed, channels = weights[f"{name}.conv1.weight"].shape[:2]
        self.conv1, self.conv2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        for part, layer in (("conv1", self.conv1), ("conv2", self.conv2)):
            layer.weight.data.copy_(weights[f"{name}.{part}.weight"])
            layer.bias.data.copy_(weights[f"{name}.{part}.bias"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.hardsigmoid(self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))))


class RecModel(nn.Module):
    """PP-LCNet, last convolution, FC neck; forward gives cosines to the class centres."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage, first_stride in FIRST_STRIDES.items():
            if stage == "conv1":
                layers.append(ConvNorm(weights, "backbone.conv1", first_stride))
                continue
            block = 0
            while f"backbone.{stage}.{block}.dw_conv.conv.weight" in weights:
                name = f"backbone.{stage}.{block}"
                layers.append(ConvNorm(weights, f"{name}.dw_conv", 1 if block else first_stride))
                if f"{name}.se.conv1.weight" in weights:
                    layers.append(SqueezeExcite(weights, f"{name}.se"))
                layers.append(ConvNorm(weights, f"{name}.pw_conv", 1))
                block += 1
        self.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        last = weights["backbone.last_conv.weight"]
        self.last_conv = nn.Conv2d(last.shape[1], last.shape[0], 1, bias=False)
        self.last_conv.weight.data.copy_(last)
        self.neck = nn.Linear(*weights["neck.fc.weight"].shape)
        self.neck.weight.data.copy_(weights["neck.fc.weight"].T)
        self.neck.bias.data.copy_(weights["neck.fc.bias"])
        self.centres = nn.Parameter(weights["head.weight"].clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.neck(F.hardswish(self.last_conv(self.backbone(x))).flatten(1))
        return F.normalize(features) @ F.normalize(self.centres, dim=0)


class Tuned(nn.Module):
    """timm's network of a name, its norms and the parameters of `fixed` names left as they are, and a classifier."""

    def __init__(self, network: str, weights: Weights, fixed: set[str], side: int) -> None:
        import timm

        super().__init__()
        keys = {"img_size": side} if network.startswith("vit") else {}
        self.backbone = timm.create_model(network, num_classes=0, **keys)
        renamed = {"_mean": "running_mean", "_variance": "running_var"}
        state = self.backbone.state_dict()
        for name, value in weights.items():
            *layers, last = name.removeprefix("backbone.").split(".")
            own = ".".join([*layers, renamed.get(last, last)])
            if name.startswith("backbone."):
                state[own] = value.T if value.shape != state[own].shape or _is_linear(self.backbone, layers) else value
        self.backbone.load_state_dict(state)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = f"backbone.{name}" not in fixed
        self.centres = nn.Parameter(weights["head.weight"].clone())

    def train(self, mode: bool = True) -> "Tuned":
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.backbone(x)) @ F.normalize(self.centres, dim=0)


def _is_linear(network: nn.Module, layers: list[str]) -> bool:
    return isinstance(network.get_submodule(".".join(layers)), nn.Linear)


def arc_margin(cosine: torch.Tensor, labels: torch.Tensor, margin: float = 0.2, scale: float = 30.0) -> torch.Tensor:
    shifted = cosine * math.cos(margin) - torch.sqrt(1 - cosine.square() + 1e-6) * math.sin(margin)
    shifted = torch.where(cosine > math.cos(math.pi - margin), shifted, cosine - math.sin(margin) * margin)
    return scale * torch.where(F.one_hot(labels, cosine.shape[1]).bool(), shifted, cosine)


def main() -> None:
    start, steps, variant, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(threads)
    network = sys.argv[5] if len(sys.argv) > 5 else ""
    stored = dict(np.load(start))
    fixed = set(stored.pop("fixed", np.array([], dtype=str)).tolist())
    arrays = {name: torch.from_numpy(array) for name, array in stored.items()}
    images, labels = arrays.pop("images"), arrays.pop("labels")
    model = (Tuned(network, arrays, fixed, images.shape[2]) if network else RecModel(arrays)).train()
    if "channels last" in variant:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.001 if network else 0.01, momentum=0.9, weight_decay=1e-5)
    seconds, cpu, losses = [], [], []
    for _ in range(steps + 2):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in variant):
            cosine = model(images)
        logits = 16 * cosine.float() if network else arc_margin(cosine.float(), labels)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - cpu_begun)
    result = {
        "images_per_s": len(labels) / statistics.median(seconds[2:]),
        "images_per_cpu_s": len(labels) / statistics.median(cpu[2:]),
        "first_step_s": seconds[0],
        "third_loss": losses[2],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
