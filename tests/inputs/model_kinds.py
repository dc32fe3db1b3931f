"""What strangers write beside their models: how images are prepared for them."""

from __future__ import annotations

from shitu_cli.features.deploy_file import read_deploy_file
from shitu_cli.features.detection.preparation import read_preparation
from tests.features.detectors import DESCRIPTION
from tests.features.test_selection import DEPLOYED
from tests.inputs.strangers import BOMB, Kind, file


def _deployed(ops: str) -> bytes:
    return f"PreProcess:\n  transform_ops: {ops}\n".encode()


INFERENCE = Kind(
    file("inference.yml", DEPLOYED.encode()),
    lambda path: read_deploy_file(path.parent),
    {
        "a bomb of aliases": BOMB,
        "an alias of itself": b"PreProcess: &a {transform_ops: [*a]}",
        "a command": b"PreProcess: !!python/object/apply:os.system ['touch ran']",
        "a step that is none": _deployed("[os.system: {command: touch ran}]"),
        "steps without end": _deployed("[" + "ToCHWImage, " * 50_000 + "]"),
        "a step of nothing": _deployed("[null]"),
        "steps of text": _deployed("ResizeImage"),
        "a step of a list": _deployed("[{? [1] : 2}]"),
        "a size without end": _deployed("[ResizeImage: {size: [1000000000, 1]}]"),
        "a size of infinity": _deployed("[ResizeImage: {size: .inf}]"),
        "a deviation of zero": _deployed("[NormalizeImage: {std: [0, 1, 1]}]"),
        "an interpolation of a list": _deployed("[ResizeImage: {size: 8, interpolation: [1]}]"),
        "keys of numbers": b"1: 2\nPreProcess: {3: 4}",
    },
    frozenset({"pipe", "endless device", "looped link", "folder"}),  # what is no regular file counts as none
)


def _detector(step: str) -> bytes:
    return f"Preprocess:\n- {{type: Resize, target_size: 64}}\n- {step}\n".encode()


DETECTOR = Kind(
    file("infer_cfg.yml", DESCRIPTION.encode()),
    read_preparation,
    {
        "a bomb of aliases": BOMB,
        "a type of a list": _detector("{type: [Resize]}"),
        "a size without end": _detector("{type: Pad, size: [1000000000, 1]}"),
        "a colour of text": _detector("{type: Pad, size: [64, 64], fill_value: red}"),
        "a mean of infinity": _detector("{type: NormalizeImage, mean: [.inf, .nan, 0]}"),
        "a step of text": _detector("Permute"),
        "a key of a number": _detector("{1: 2}"),
    },
)
