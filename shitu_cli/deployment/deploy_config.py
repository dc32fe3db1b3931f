"""`inference.yml`: the preprocessing in the form that PaddleX and PaddleClas's deployment code read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from shitu_cli.config.parts import plain
from shitu_cli.config.parts import transforms as parts
from shitu_cli.data.transforms import Normalization

# Names that PaddleX accepts for a recognition model; it checks the name, not the network.
PADDLEX_NAME = "PP-ShiTuV2_rec"


def deploy_config(ops: Sequence[parts.Transform], *, name: str, normalized_inside: bool) -> tuple[str | None, str]:
    """Return the text of inference.yml (None if it cannot express the preprocessing) and a remark for the user."""
    steps: list[dict[str, Any]] = []
    for op in ops:
        if op.name in ("DecodeImage", "ToCHWImage"):
            continue
        if op.name == "ResizeImage":
            args = {key: plain(op.args[key]) for key in ("size", "resize_short") if key in op.args}
            if isinstance(args.get("size"), int):
                args["size"] = [args["size"], args["size"]]
            backend = op.args.get("backend", "cv2")
            method = op.args.get("interpolation") or ("bicubic" if backend == "pil" else "bilinear")
            steps.append({op.name: {**args, "backend": backend, "interpolation": method, "return_numpy": False}})
        elif op.name == "NormalizeImage":
            steps.append({op.name: _normalize(op.build().values)})
        else:
            return None, f"inference.yml was not written: PaddleX has no {op.name}, only ResizeImage and NormalizeImage"
    if [next(iter(step)) for step in steps] != ["ResizeImage", "NormalizeImage"]:
        return None, "inference.yml was not written: PaddleX needs ResizeImage, then NormalizeImage"
    reduced = any(op.name == "DecodeImage" and op.args.get("reduced") for op in ops)
    values = {
        "Global": {"model_name": name},
        "PreProcess": {"transform_ops": [*steps, {"ToCHWImage": None}]},
        # Normalising features that have length one already does not change them.
        "PostProcess": {"NormalizeFeatures": None},
    }
    remark = (
        "the exported network returns features of length one"
        if normalized_inside
        else "the exported network returns unnormalised features; shitu and PaddleX normalise them (or --normalize)"
    )
    if reduced:
        remark += "; PaddleX decodes whole images where this program reduces large ones, so features differ a little"
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None), remark


def _normalize(values: Normalization) -> dict[str, Any]:
    mean, std = list(values.mean), list(values.std)
    return {"channel_num": 3, "mean": mean, "std": std, "order": "hwc", "scale": values.scale}
