"""Tiny detectors in the forms of real families: each finds bright squares of 16 pixels on a grid of 16, on 64 x 64."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, STRIDES, CELL = 64, (8, 16, 32), 16
DESCRIPTION = """\
mode: paddle
arch: PicoDet
Preprocess:
- interp: 1
  keep_ratio: false
  target_size: [64, 64]
  type: Resize
- is_scale: true
  mean: [0.0, 0.0, 0.0]
  std: [1.0, 1.0, 1.0]
  type: NormalizeImage
- type: Permute
label_list:
- foreground
"""


def scene(*cells: tuple[int, int], shape: tuple[int, int] = (128, 128)) -> np.ndarray:
    """An image uint8 [*shape, 3] whose cells (across, down; of 4 x 4) are bright, the first one most."""
    image = np.zeros((4, 4, 3), np.uint8)
    for number, (x, y) in enumerate(cells):
        image[y, x] = 255 - 20 * number
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_NEAREST)


def centres() -> np.ndarray:
    """float32 [84, 3]: centre and stride of each place of all levels."""
    return np.concatenate(
        [
            [((n % (SIDE // s) + 0.5) * s, (n // (SIDE // s) + 0.5) * s, s) for n in range((SIDE // s) ** 2)]
            for s in STRIDES
        ]
    ).astype(np.float32)


class Graph:
    """Collects the steps of an ONNX file."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def step(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def level_scores(self, stride: int) -> str:
        """float32 [1, N, 1]: how bright each place is, where the stride is the one that counts."""
        mean = self.step("ReduceMean", "image", axes=[1], keepdims=1)
        pooled = self.step("AveragePool", mean, kernel_shape=[stride, stride], strides=[stride, stride])
        rows = self.step("Reshape", pooled, self.constant([1, -1, 1], np.int64))
        weighted = self.step("Mul", rows, self.constant(1.0 if stride == CELL else 0.0))
        return self.step("Clip", weighted, self.constant(0.0), self.constant(1.0))

    def scores(self) -> str:
        return self.step("Concat", *(self.level_scores(stride) for stride in STRIDES), axis=1)

    def save(self, file: Path, outputs: Sequence[str], inputs: dict[str, Sequence[int]] | None = None) -> Path:
        given = {"image": [1, 3, SIDE, SIDE], **(inputs or {})}
        graph = helper.make_graph(
            self.nodes,
            "detector",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        # paddle2onnx declares a domain of its own without using it.
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid("Paddle", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), file)
        return file


def yolo_8(file: Path) -> Path:
    graph, places = Graph(), centres()
    boxes = np.concatenate([places[:, :2], places[:, 2:], places[:, 2:]], axis=1)
    rows = graph.step("Concat", graph.constant(boxes[None]), graph.scores(), axis=2)
    return graph.save(file, [graph.step("Transpose", rows, perm=[0, 2, 1])])


def yolo_8_of_any_size(file: Path) -> Path:
    """As Ultralytics exports it with `dynamic`: the size stands in the metadata."""
    yolo_8(file)
    model = onnx.load(file)
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    helper.set_model_props(model, {"imgsz": f"[{SIDE}, {SIDE}]", "task": "detect"})
    onnx.save(model, file)
    return file


def yolo_8_in_halves(file: Path) -> Path:
    """As Ultralytics exports it with `half`: the image is given in float16."""
    yolo_8(file)
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in model.graph.node:
        node.input[:] = ["whole" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.FLOAT))
    onnx.save(model, file)
    return file


def yolo_5_with_maps(file: Path) -> Path:
    """As older exports of YOLOv5: the feature maps come besides."""
    yolo_5(file)
    model = onnx.load(file)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 8, 8, 6), np.float32), "map"))
    model.graph.node.append(helper.make_node("Identity", ["map"], ["maps"]))
    model.graph.output.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, [1, 3, 8, 8, 6]))
    onnx.save(model, file)
    return file


def yolo_5(file: Path) -> Path:
    """Of three anchors, two give boxes that are the same and less sure."""
    graph, places = Graph(), centres()
    boxes = np.concatenate([places[:, :2], places[:, 2:], places[:, 2:]], axis=1)
    scores = graph.scores()
    sure = graph.constant(np.ones((1, len(places), 1)))
    rows = [
        graph.step("Concat", graph.constant(boxes[None]), graph.step("Mul", scores, graph.constant(part)), sure, axis=2)
        for part in (1.0, 0.9, 0.5)
    ]
    return graph.save(file, [graph.step("Concat", *rows, axis=1)])


def yolo_finished(file: Path) -> Path:
    """x1, y1, x2, y2, score, class, filled up with zeros; as YOLOv10."""
    graph, places = Graph(), centres()
    half = places[:, 2:] / 2
    boxes = np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)
    rows = graph.step(
        "Concat", graph.constant(boxes[None]), graph.scores(), graph.constant(np.zeros((1, 84, 1))), axis=2
    )
    return graph.save(file, [rows])


def pico_raw(file: Path) -> Path:
    """PicoDet without postprocessing: sides of half a stride, as a distribution over 0 and 1."""
    graph = Graph()
    scores = [graph.level_scores(stride) for stride in STRIDES]
    logits = np.tile([0.0, 0.0, *[-60.0] * 6], 4)
    distances = [
        graph.step("Identity", graph.constant(np.tile(logits, (1, (SIDE // stride) ** 2, 1)))) for stride in STRIDES
    ]
    return graph.save(file, [*scores, *distances])


def paddle_unsuppressed(file: Path, *, scaled: bool = False) -> Path:
    """PaddleDetection without its own suppression: boxes [1, N, 4] of the input, scores [1, 1, N]."""
    graph, places = Graph(), centres()
    half = places[:, 2:] / 2
    boxes = graph.constant(np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)[None])
    inputs = {}
    if scaled:
        wide = graph.step("Gather", "scale_factor", graph.constant([1, 0, 1, 0], np.int64), axis=1)
        boxes, inputs = graph.step("Div", boxes, wide), {"scale_factor": [1, 2]}
    else:
        boxes = graph.step("Identity", boxes)
    return graph.save(file, [boxes, graph.step("Transpose", graph.scores(), perm=[0, 2, 1])], inputs)


def paddle_finished(file: Path) -> Path:
    """PaddleDetection as it is exported: class, score and box in the image; the number of rows that count."""
    graph, places = Graph(), centres()
    half = places[:, 2:] / 2
    wide = graph.step("Gather", "scale_factor", graph.constant([1, 0, 1, 0], np.int64), axis=1)
    corners = graph.constant(np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1))
    boxes = graph.step("Div", corners, wide)
    scores = graph.step("Reshape", graph.scores(), graph.constant([-1], np.int64))
    graph.nodes.append(helper.make_node("TopK", [scores, graph.constant([3], np.int64)], ["best", "rows"], axis=0))
    best = graph.step("Reshape", "best", graph.constant([3, 1], np.int64))
    chosen = graph.step("Gather", boxes, "rows", axis=0)
    rows = graph.step("Concat", graph.constant(np.zeros((3, 1))), best, chosen, axis=1)
    count = graph.step("Identity", graph.constant([3.0]))
    return graph.save(file, [rows, count], {"scale_factor": [1, 2], "im_shape": [1, 2]})


def recogniser(folder: Path) -> Path:
    """Write a network whose feature is the image at 4 x 4, as PaddleX exports one; it is compared by colour."""
    folder.mkdir()
    graph = Graph()
    small = graph.step("AveragePool", "image", kernel_shape=[16, 16], strides=[16, 16])
    graph.save(folder / "inference.onnx", [graph.step("Flatten", graph.step("Sub", small, graph.constant(0.4)))])
    (folder / "inference.yml").write_text(
        f"PreProcess:\n  transform_ops:\n  - ResizeImage: {{size: [{SIDE}, {SIDE}]}}\n"
        "  - NormalizeImage: {scale: 1/255, mean: [0, 0, 0], std: [1, 1, 1]}\n"
    )
    return folder


def coloured(*things: tuple[int, int, tuple[int, int, int]], side: int = 128) -> np.ndarray:
    """An image uint8 [side, side, 3] with things in some of its 4 x 4 cells: across, down, colour."""
    image = np.zeros((4, 4, 3), np.uint8)
    for x, y, colour in things:
        image[y, x] = colour
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)


def paddle_program(folder: Path, form: str) -> None:
    """Write a network of PaddleDetection's kind with Paddle's own suppression inside, as `form` pir or pdmodel."""
    import paddle
    from paddle.nn import functional
    from paddle.pir_utils import OldIrGuard

    half = (places := centres())[:, 2:] / 2
    corners = np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)[None]

    class Network(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            assign = paddle.nn.initializer.Assign(corners)
            self.corners = self.create_parameter(list(corners.shape), default_initializer=assign)

        def forward(self, image: Any, scale_factor: Any) -> Any:
            mean = image.mean(axis=1, keepdim=True)
            levels = [functional.avg_pool2d(mean, s, s).reshape([1, 1, -1]) * float(s == CELL) for s in STRIDES]
            y, x = paddle.split(scale_factor, 2, axis=-1)
            boxes = self.corners / paddle.concat([x, y, x, y], axis=-1).reshape([-1, 1, 4])
            return suppressed(boxes, paddle.concat(levels, axis=2).clip(0.0, 1.0))

    def suppressed(boxes: Any, scores: Any) -> Any:
        if form == "pir":
            rows, _, count = paddle._C_ops.multiclass_nms3(boxes, scores, None, 0.3, 1000, 100, 0.5, True, 1.0, -1)
            return rows, count
        helper = paddle.base.layer_helper.LayerHelper("multiclass_nms3")
        kinds = {"Out": "float32", "Index": "int32", "NmsRoisNum": "int32"}
        out = {name: helper.create_variable_for_type_inference(kind) for name, kind in kinds.items()}
        numbers = {"background_label": -1, "nms_top_k": 1000, "keep_top_k": 100, "normalized": True}
        shares = {"score_threshold": 0.3, "nms_threshold": 0.5, "nms_eta": 1.0}
        inputs = {"BBoxes": boxes, "Scores": scores}
        helper.append_op(type="multiclass_nms3", inputs=inputs, attrs={**numbers, **shares}, outputs=out)
        return out["Out"], out["NmsRoisNum"]

    network = Network()
    network.eval()
    shapes = {"image": [1, 3, SIDE, SIDE], "scale_factor": [1, 2]}
    spec = [paddle.static.InputSpec(shape, "float32", name) for name, shape in shapes.items()]
    with OldIrGuard() if form == "pdmodel" else contextlib.nullcontext():
        static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
        paddle.jit.save(static, str(folder / "inference"))
    (folder / "inference.yml").write_text(DESCRIPTION)
