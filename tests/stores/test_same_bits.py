"""Features, metrics and a training are the same bits from folders, tar, zip, Parquet and S3."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shitu_cli import Extractor, load_config
from shitu_cli.stores import join, open_archive
from tests.command import SMALL, shitu
from tests.stores.samples import images, parquet_bytes, tar_bytes, write_folder, zip_bytes
from tests.stores.test_addresses import bucket  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow
CONTENT = images(10)
LISTS = ("train_list.txt", "query_list.txt", "gallery_list.txt")


@pytest.fixture(scope="module")
def trained(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:  # noqa: F811
    """A workspace trained from a folder, beside the same images in every other store."""
    root = tmp_path_factory.mktemp("same")
    write_folder(root / "data", CONTENT)
    for name, data in (
        ("a.tar", tar_bytes(CONTENT)),
        ("a.zip", zip_bytes(CONTENT)),
        ("a.parquet", parquet_bytes(CONTENT, row_group_size=7, data_page_size=4000)),
    ):
        (root / "data" / name).write_bytes(data)
        bucket.pipe_file(f"shop/same/{name}", data)
    for name, data in CONTENT.items():
        bucket.pipe_file(f"shop/same/{name}", data)
    shitu("prepare", "data", cwd=root)
    shitu("train", *SMALL, "--epochs", "1", cwd=root)
    yield root


def spellings(root: Path) -> dict[str, dict[str, str]]:
    """How each store's lists name the images, by store."""
    members = open_archive(root / "data/a.parquet").index.names()
    rows = dict(zip(CONTENT, members, strict=True))
    local = {
        "tar": {name: f"a.tar::{name}" for name in CONTENT},
        "zip": {name: f"a.zip::{name}" for name in CONTENT},
        "Parquet": {name: f"a.parquet::{rows[name]}" for name in CONTENT},
    }
    remote = {f"S3 {kind}": {n: f"s3://shop/same/{p}" for n, p in paths.items()} for kind, paths in local.items()}
    return {**local, **remote, "S3 files": {name: f"s3://shop/same/{name}" for name in CONTENT}}


def respell(root: Path, names: dict[str, str], plain: dict[str, str]) -> None:
    for file, text in plain.items():
        lines = [line.split("\t") for line in text.splitlines()]
        (root / "lists" / file).write_text("".join(f"{names[path]}\t{label}\n" for path, label in lines))


def test_the_same_features_metrics_and_checkpoints(trained: Path) -> None:
    plain = {file: (trained / "lists" / file).read_text() for file in LISTS}
    metrics = shitu("evaluate", "--json", "--no-cache", cwd=trained).stdout
    extractor = Extractor(trained / "output/best_model.pdparams", config=load_config(trained / "shitu.yaml"))
    expected = extractor.extract([str(trained / "data" / name) for name in CONTENT])
    stores = spellings(trained)
    for store, names in stores.items():
        features = extractor.extract([join(str(trained / "data"), names[name]) for name in CONTENT])
        assert features.tobytes() == expected.tobytes(), store
    # One evaluation and one training for all: each image comes from another store than its neighbours.
    ways = itertools.cycle([{name: name for name in CONTENT}, *stores.values()])
    respell(trained, {name: next(ways)[name] for name in CONTENT}, plain)
    assert shitu("evaluate", "--json", "--no-cache", cwd=trained).stdout == metrics
    shitu("train", *SMALL, "--epochs", "1", "-o", "Global.output_dir=./mixed", cwd=trained)
    for suffix in ("pdparams", "pdopt"):
        first, second = (trained / folder / f"latest.{suffix}" for folder in ("output", "mixed"))
        assert first.read_bytes() == second.read_bytes()
