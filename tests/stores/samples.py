"""The same few images in every kind of store."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NAMES = ("kiwi", "leek", "plum")


def drawn(seed: tuple[int, int]) -> bytes:
    """A JPEG of 48 x 48 pixels; classes (the first number) differ in colour, images in noise."""
    base = np.random.default_rng(seed[0]).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    large = cv2.resize(base, (48, 48), interpolation=cv2.INTER_NEAREST).astype(int)
    noisy = np.clip(large + np.random.default_rng(seed).integers(-30, 31, large.shape), 0, 255)
    return cv2.imencode(".jpg", noisy.astype(np.uint8))[1].tobytes()


def images(per_class: int = 6) -> dict[str, bytes]:
    """`kiwi/0.jpg` and so on, in the order in which folders are walked."""
    return {f"{name}/{n}.jpg": drawn((k, n)) for k, name in enumerate(NAMES) for n in range(per_class)}


def write_folder(root: Path, content: Mapping[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def tar_bytes(content: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_bytes(content: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return out.getvalue()


def parquet_bytes(content: Mapping[str, bytes], **options: Any) -> bytes:
    """A file as `datasets` writes it: the labels are the first folders of the names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [NAMES.index(name.partition("/")[0]) for name in content]
    rows = [{"bytes": data, "path": name.rpartition("/")[2]} for name, data in content.items()]
    features = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
    table = pa.table({"image": rows, "label": labels})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()
