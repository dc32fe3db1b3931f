"""`shitu extract --shard` and `shitu merge`: the bytes of one process, or an error that lists all that is wrong."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli import Extractor
from shitu_cli.errors import DataError, ShituError, UsageError
from shitu_cli.features import extract_shards, feature_file, writing
from shitu_cli.features.extract_shards import extract_shard, merge_shards
from shitu_cli.features.feature_file import extract_to_file, work_folder
from shitu_cli.features.resumable import Extraction
from shitu_cli.features.shard_file import Share, read_shard
from shitu_cli.index import open_index
from shitu_cli.index.sources import read_features
from shitu_cli.preparation.sources import ImageFiles, find_images
from shitu_cli.reporting import SilentReporter
from tests.command import shitu
from tests.mutations import at_least, cases

QUIET = SilentReporter()


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: object) -> None:
        self.warnings.append(str(text))


@pytest.fixture(scope="module")
def extractor(exported: Path) -> Extractor:
    return Extractor(exported, threads=1, batch_size=3)


@pytest.fixture(scope="module")
def images(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    """31 images, one of which cannot be read."""
    broken = tmp_path_factory.mktemp("broken") / "no image.jpg"
    broken.write_bytes(b"none")
    files = ImageFiles()
    for number, path in enumerate(pictures):
        files.add(path, path.parent.name)
        if number == 7:
            files.add(broken, "odd")
    return files


@pytest.fixture(scope="module")
def shards(extractor: Extractor, images: ImageFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 5 shards; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("shards")
    for number in (4, 1, 5, 3, 2):
        extract_shard(Extraction(extractor, images), folder / "features.npy", Share(number, 5), QUIET)
    assert sorted(path.name for path in folder.iterdir()) == [f"features.npy.{n}-of-5.shard" for n in range(1, 6)]
    return folder


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/5", "²/4", "1/1000000", "a/b", "1.0/2"])
def test_a_share_is_a_part_of_parts(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Share.parse(text)


@cases(200)
@given(st.integers(0, 5000), st.integers(1, 70), st.integers(1, 300))
def test_shares_are_whole_batches_and_cover_all_images_once(count: int, batch: int, of: int) -> None:
    ranges = [Share(number, of).range(count, batch) for number in range(1, of + 1)]
    assert [n for part in ranges for n in part] == list(range(count))
    assert all(part.start % batch == 0 for part in ranges if part)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_shards_give_the_bytes_of_one_process(
    extractor: Extractor, images: ImageFiles, shards: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    for module in (writing, extract_shards, feature_file):
        monkeypatch.setattr(module, "PIECE", 4)  # pieces that begin and end inside shards
    whole = extract_to_file(Extraction(extractor, images), tmp_path / f"whole{suffix}", QUIET)
    both = merge_shards([str(shards)], tmp_path / f"joined{suffix}", QUIET)
    assert both.count == whole.count == 30 and both.skipped == whole.skipped and len(whole.skipped) == 1
    for one, other in zip(whole.files, both.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    notes = [json.loads((tmp_path / f"{name}{suffix}.model.json").read_text()) for name in ("whole", "joined")]
    assert notes[0] == notes[1]


def test_more_shards_than_batches_are_fine(extractor: Extractor, images: ImageFiles, tmp_path: Path) -> None:
    few = images.take(range(5))
    for number in range(1, 8):
        extract_shard(Extraction(extractor, few), tmp_path / "features.npy", Share(number, 7), QUIET)
    merge_shards([str(tmp_path / "*.shard")], None, QUIET)
    extract_to_file(Extraction(extractor, few), tmp_path / "whole.npy", QUIET)
    assert (tmp_path / "features.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_an_empty_part_is_passed_over_by_add_and_not_taken_by_build(
    extractor: Extractor, images: ImageFiles, tmp_path: Path
) -> None:
    few = images.take(range(3))
    first, second = (Share(number, 2).file(tmp_path / "f.npy") for number in (1, 2))
    for number in (1, 2):
        extract_shard(Extraction(extractor, few), tmp_path / "f.npy", Share(number, 2), QUIET)
    words = ("--index", "i", "--json")
    refused = shitu("index", "build", "--features", str(first), *words, cwd=tmp_path, check=False)
    assert refused.returncode == 3 and "holds no vectors" in refused.stderr and "another part" in refused.stderr
    shitu("index", "build", "--features", str(second), *words, cwd=tmp_path)
    added = shitu("index", "add", "--features", str(first), *words, cwd=tmp_path)
    assert (json.loads(added.stdout)["added"], json.loads(added.stdout)["count"]) == (0, 3)


def test_an_interrupted_shard_goes_on(extractor: Extractor, images: ImageFiles, tmp_path: Path) -> None:
    stopped = copy.copy(extractor)

    def stop(inputs: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    stopped.engine = dataclasses.replace(extractor.engine, run=stop)
    share, out = Share(2, 2), tmp_path / "f.npy"
    with pytest.raises(KeyboardInterrupt):
        extract_shard(Extraction(stopped, images), out, share, QUIET)
    assert work_folder(share.file(out)).is_dir() and not share.file(out).exists()
    extract_shard(Extraction(extractor, images), out, share, QUIET)
    assert share.file(out).is_file() and not work_folder(share.file(out)).exists()


def broken_copies(shards: Path, folder: Path) -> Path:
    return shutil.copytree(shards, folder / "copy")


def refused(folder: Path, *sources: str) -> list[str]:
    with pytest.raises(DataError, match="the shards do not fit together") as caught:
        merge_shards(list(sources) or [str(folder)], folder / "features.npy", QUIET)
    assert not (folder / "features.npy").exists()
    return caught.value.details


def test_missing_double_and_foreign_shards_are_named_all_at_once(
    extractor: Extractor, images: ImageFiles, shards: Path, tmp_path: Path
) -> None:
    folder = broken_copies(shards, tmp_path)
    (folder / "features.npy.4-of-5.shard").unlink()
    shutil.copy(folder / "features.npy.1-of-5.shard", folder / "again.shard")
    extract_shard(Extraction(extractor, images), folder / "other.npy", Share(2, 3), QUIET)
    backwards = images.take(range(len(images) - 1, -1, -1))
    extract_shard(Extraction(extractor, backwards), folder / "features.npy", Share(5, 5), QUIET)
    raw = folder / "features.npy"
    extract_shard(Extraction(extractor, images, normalize=False), raw, Share(3, 5), QUIET)
    (folder / "torn.shard").write_bytes((folder / "again.shard").read_bytes()[:-100])
    details = "\n".join(refused(folder))
    for expected in (
        "missing: 4/5",
        "1/5 was given 2 times",
        "other.npy.2-of-3.shard: another parts in all: 3, most have 5",
        "features.npy.5-of-5.shard: another images or their order",
        "features.npy.3-of-5.shard: another options",
        "torn.shard: not a complete shard",
    ):
        assert expected in details


def test_a_shard_of_another_model_is_refused(
    extractor: Extractor, images: ImageFiles, shards: Path, tmp_path: Path
) -> None:
    folder = broken_copies(shards, tmp_path)
    other = copy.copy(extractor)
    other.engine = dataclasses.replace(extractor.engine, fingerprint="f" * 64)
    extract_shard(Extraction(other, images), folder / "features.npy", Share(2, 5), QUIET)
    (line,) = refused(folder)
    assert "features.npy.2-of-5.shard: another model" in line


def test_another_engine_is_said(extractor: Extractor, images: ImageFiles, shards: Path, tmp_path: Path) -> None:
    folder = broken_copies(shards, tmp_path)
    other = copy.copy(extractor)
    other.engine = dataclasses.replace(extractor.engine, description="another engine")
    extract_shard(Extraction(other, images), folder / "features.npy", Share(2, 5), QUIET)
    listener = Listener()
    merge_shards([str(folder)], None, listener)
    assert "equal except for rounding" in listener.warnings[0]


@pytest.mark.fuzz
def test_a_damaged_shard_is_never_believed(shards: Path, tmp_path: Path) -> None:
    merge_shards([str(shards)], tmp_path / "features.npy", QUIET)
    whole = (shards / "features.npy.3-of-5.shard").read_bytes()
    folder = broken_copies(shards, tmp_path)
    for seed in range(at_least(60)):
        random, data = np.random.default_rng(seed), bytearray(whole)
        at = int(random.integers(len(data)))
        if seed % 4 == 0:
            del data[at:]
        else:
            data[at] ^= int(random.integers(1, 256))
        (folder / "features.npy.3-of-5.shard").write_bytes(data)
        try:
            merge_shards([str(folder)], folder / "features.npy", QUIET)
        except ShituError:
            assert not (folder / "features.npy").exists(), seed
            continue
        for name in ("features.npy", "features.tsv"):  # a byte that means nothing, such as a date in the zip
            assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), seed
            (folder / name).unlink()


def test_compressed_and_other_zips_are_no_shards(tmp_path: Path) -> None:
    path = tmp_path / "x.shard"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shard.json", json.dumps({"format": 1, "padding": " " * 10000}))
    with pytest.raises(DataError, match="is compressed"):
        read_shard(path)
    for header in ("{}", "[]", "1", '{"format": 2}', '{"format": 1, "job": {}, "parts": [], "number": 1}'):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("shard.json", header)
        with pytest.raises(DataError, match="not a complete shard"):
            read_shard(path)


def test_the_commands_of_a_job(exported: Path, pictures: list[Path], tmp_path: Path) -> None:
    place = str(pictures[0].parents[1])
    model = ["--model", str(exported), "--batch-size", "4"]
    shitu("extract", place, *model, "--out", "whole.npy", cwd=tmp_path)
    for number in (1, 2):
        done = shitu("extract", place, *model, "--out", "f.npy", "--shard", f"{number}/2", cwd=tmp_path)
    assert "next: when all parts are there: shitu merge 'f.npy.*-of-2.shard'" in done.stdout
    done = shitu("merge", "f.npy.*-of-2.shard", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["images"] == 30
    for ending in (".npy", ".tsv"):
        assert (tmp_path / f"f{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    for args, code, text in (
        (["merge", "nothing.shard"], 2, "no shards: nothing.shard"),
        (["merge", "whole.npy"], 3, "not a complete shard"),
        (["merge", "f.npy.1-of-2.shard"], 3, "missing: 2/2"),
        (["extract", place, *model, "--shard", "3/2"], 2, "parts are numbered 1 to 2"),
    ):
        done = shitu(*args, cwd=tmp_path, check=False)
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_shards_are_indexed_one_by_one(
    exported: Path, extractor: Extractor, images: ImageFiles, shards: Path, tmp_path: Path
) -> None:
    """The first builds the index, the others are added, in any order: the same vectors as those of the joined file."""
    for number in range(1, 6):
        file = shards / f"features.npy.{number}-of-5.shard"
        command = ("build",) if number == 1 else ("add",)
        shitu("index", *command, "--features", str(file), "--index", "parts", cwd=tmp_path)
    merge_shards([str(shards)], tmp_path / "whole.npy", QUIET)
    shitu("index", "build", "--features", "whole.npy", "--index", "whole", cwd=tmp_path)
    parts, whole = (open_index(tmp_path / name) for name in ("parts", "whole"))
    assert parts.manifest().model == whole.manifest().model == extractor.fingerprint and parts.manifest().count == 30
    queries = np.load(tmp_path / "whole.npy")
    one, other = ([[(m.path, m.label, m.score) for m in row] for row in at.search(queries, 3)] for at in (parts, whole))
    assert one == other
    done = shitu("index", "add", "--features", "whole.npy.shard", "--index", "parts", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "no such file: whole.npy.shard" in done.stderr
    (tmp_path / "torn.shard").write_bytes((shards / "features.npy.2-of-5.shard").read_bytes()[:-500])
    paths = [path for row in one for path, _, _ in row]
    files = list(dict.fromkeys(path for path in paths))
    ask = ("search", *files, "--index", "whole", "--model", str(exported), "--json")
    answers = json.loads(shitu(*ask, cwd=tmp_path).stdout)["results"]
    assert len(answers) == 30
    in_parts = [shitu(*ask, "--shard", f"{number}/3", cwd=tmp_path).stdout for number in (1, 2, 3)]
    assert [row for part in in_parts for row in json.loads(part)["results"]] == answers
    done = shitu("index", "add", "--features", "torn.shard", "--index", "parts", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "torn.shard: not a complete shard" in done.stderr


def test_joined_shards_lead_to_their_images_from_any_directory(
    extractor: Extractor, make_images: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "there/data", classes=2, per_class=2)
    monkeypatch.chdir(tmp_path / "there")
    images = find_images(["data"])
    for number in (1, 2):
        extract_shard(Extraction(extractor, images), Path("f.npy"), Share(number, 2), QUIET)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    merge_shards([str(tmp_path / "there/*.shard")], Path("f.npy"), QUIET)
    paths = [*read_features(Path("f.npy")).table.paths]
    assert [os.path.realpath(path) for path in paths] == [str(tmp_path / "there" / file) for file in images.files]
    first = read_features(tmp_path / "there/f.npy.1-of-2.shard").table.paths
    assert paths[: len(first)] == [os.path.relpath(path) for path in first]
