"""Compare images with their classes by features of trained weights that are on this machine.

Features are kept by the content of each image: after a correction, `prepare` computes only what is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.errors import ConfigError, EnvironmentProblem, ShituError, UsageError, pip_install
from shitu_cli.files import atomic_write
from shitu_cli.inputs.damage import DAMAGE
from shitu_cli.inputs.yaml_files import parse_yaml
from shitu_cli.preparation.comparison import Comparison, by_features, sample
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.preparation.starts import light_start
from shitu_cli.reporting import Reporter
from shitu_cli.weights.store import Located

USUAL = 3_000  # images compared unless the user says otherwise: half a minute on two cores
FEWEST = 50  # images; fewer can be seen on the page at a glance
KEY_BYTES = 16


def compare_labels(
    prepared: Prepared, config: str, cache: Path, reporter: Reporter, *, most: int | None
) -> Comparison | None:
    """Return how well each image fits its class by features; None if the page has to compare colours instead.

    Args:
        prepared: The images and their labels.
        config: The text of the config. Without `most`, features are computed where its training starts from trained
            weights.
        cache: The file in which features are kept.
        reporter: Receives progress and warnings.
        most: The number of images to compare, 0 for none; None leaves it to the amount of data.

    Raises UsageError if `most` is given and no weights are here.
    """
    start = light_start()
    if most == 0 or (most is None and (start is None or len(prepared.rows) < FEWEST or not _has_start(config))):
        return None
    if start is None:
        raise UsageError(
            "--compare needs trained weights, and none are on this machine",
            hint=f"{pip_install('pretrained')}; or leave it out",
        )
    numbers = sample(prepared.rows.labels, USUAL if most is None else most)
    try:
        numbers, features = _features(prepared, numbers, start, cache, reporter)
    except EnvironmentProblem as problem:  # a full or read-only disk; the page works without features
        reporter.warn(f"labels are compared by colours only: {problem.message}")
        return None
    assert start.published is not None
    return by_features(prepared.rows.labels, numbers, features, f"features of {start.published.name}")


def _has_start(config: str) -> bool:
    """Return whether training starts from trained weights."""
    try:
        values = parse_yaml(config, "shitu.yaml", error=ConfigError)
        return bool(values["Arch"]["Backbone"].get("pretrained"))
    except (ShituError, KeyError, TypeError, AttributeError):
        return False  # reported where the config is patched


def _features(
    prepared: Prepared, numbers: Sequence[int], start: Located, cache: Path, reporter: Reporter
) -> tuple[list[int], np.ndarray]:
    """Return the images that have features, and these [N, D]."""
    from shitu_cli.deployment.pretrained import export_pretrained

    assert start.published is not None
    model = export_pretrained(start.published.name, reporter)
    keys = {number: _key(prepared, number) for number in numbers}
    kept = _read(cache, model.name)
    missing = {key: number for number, key in keys.items() if key not in kept}
    if missing:
        kept |= _computed(prepared, missing, model, reporter)
        _write(cache, model.name, {key: kept[key] for key in keys.values() if key in kept})
    numbers = [number for number in numbers if keys[number] in kept]
    return numbers, np.stack([kept[keys[number]] for number in numbers]) if numbers else np.zeros((0, 1))


def _key(prepared: Prepared, number: int) -> bytes:
    """Return a key for the content of an image or of a box in it."""
    content = prepared.looks[number].digest + repr(prepared.rows.boxes.get(number)).encode()
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def _computed(prepared: Prepared, images: dict[bytes, int], model: Path, reporter: Reporter) -> dict[bytes, np.ndarray]:
    """Return the features of the images that can be read."""
    from shitu_cli.features.extractor import Cropped, Extractor, ImageInput

    rows = prepared.rows
    inputs: list[ImageInput] = [
        rows.location(n) if n not in rows.boxes else Cropped(rows.location(n), rows.boxes[n]) for n in images.values()
    ]
    keys = list(images)
    features: dict[bytes, np.ndarray] = {}
    with reporter.progress("comparing", len(inputs)) as bar:
        for indices, vectors, unreadable in Extractor(model).batches(inputs):
            features |= {keys[at]: vector for at, vector in zip(indices, vectors.astype(np.float16), strict=True)}
            bar.advance(len(indices) + len(unreadable))
    return features


def _read(path: Path, model: str) -> dict[bytes, np.ndarray]:
    """Return the kept features of this model by key; {} if there are none."""
    try:
        with np.load(path, allow_pickle=False) as values:
            if str(values["model"]) != model:
                return {}
            keys, features = values["keys"].tobytes(), values["features"]
    except DAMAGE:
        return {}  # a damaged cache counts as empty
    return dict(zip(_split(keys), features, strict=False))


def _split(keys: bytes) -> Iterable[bytes]:
    return (keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES))


def _write(path: Path, model: str, features: dict[bytes, np.ndarray]) -> None:
    if not features:
        return
    keys = np.frombuffer(b"".join(features), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, model=np.array(model), keys=keys, features=np.stack(list(features.values())))
