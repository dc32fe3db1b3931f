"""What is not read as it lies: compressed archives, spreadsheets, HEIC without its package; how to get on is said."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.command import shitu
from tests.preparation.test_layouts import many

READ, KINDS = ("zip", "tar"), ("tar.gz", "tar.xz")


def pack(root: Path, kind: str) -> Path:
    """Pack class folders, and return the archive."""
    many(root / "fruit", "{name}/{i}.jpg", 3)
    path, files = root / f"fruit.{kind}", sorted((root / "fruit").rglob("*.jpg"))
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(root / "fruit"))
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as archive:
            for file in files:
                archive.add(file, str(file.relative_to(root / "fruit")))
    for file in files:
        file.unlink()
    (root / "fruit").rename(root / "old")
    return path


@pytest.mark.parametrize("kind", READ)
def test_an_archive_is_read_where_it_lies(kind: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "data", kind)
    before = sorted(tmp_path.rglob("data/**/*"))
    assert "12 labelled images" in shitu("-w", "ws", "prepare", str(path), cwd=tmp_path).stdout
    assert sorted(tmp_path.rglob("data/**/*")) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", [False, True])
def test_the_command_of_the_hint_unpacks_an_archive(kind: str, inside: bool, tmp_path: Path) -> None:
    path = pack(tmp_path / "data", kind)
    done = shitu("-w", "ws", "prepare", "data" if inside else str(path), cwd=tmp_path, check=False)
    assert done.returncode == 3 and "an archive" in done.stderr, done.stderr
    unpack, _, prepare = done.stderr.partition("unpack it: ")[2].partition(" && shitu ")
    subprocess.run(unpack, shell=True, check=True, cwd=tmp_path, capture_output=True)
    done = shitu(*shlex.split(prepare.splitlines()[0]), cwd=tmp_path)
    assert "12 labelled images" in done.stdout


@pytest.mark.parametrize("alone", [False, True])
def test_a_spreadsheet_is_to_be_saved_as_csv(alone: bool, tmp_path: Path) -> None:
    many(tmp_path / "data", "{k}_{i}.jpg", 3)
    with zipfile.ZipFile(tmp_path / "data/stock.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    done = shitu("prepare", "data/stock.xlsx" if alone else "data", cwd=tmp_path, check=False)
    told = " ".join(done.stderr.split())
    assert done.returncode == 3 and "stock.xlsx" in told and "save it as CSV UTF-8" in told
    assert "soffice --headless --convert-to csv" in told and "stock.csv" in told


def test_a_spreadsheet_beside_folders_is_named(tmp_path: Path) -> None:
    many(tmp_path / "data", "{name}/{i}.jpg", 3)
    (tmp_path / "data/prices.xlsx").write_bytes(b"PK")
    done = shitu("prepare", "data", cwd=tmp_path)
    assert "not used: prices.xlsx (a spreadsheet" in done.stdout


def test_archives_beside_images_do_not_matter(tmp_path: Path) -> None:
    many(tmp_path / "data", "{name}/{i}.jpg", 3)
    (tmp_path / "data/backup.zip").write_bytes(b"PK\x03\x04")
    assert "12 labelled images" in shitu("prepare", "data", cwd=tmp_path).stdout


def heic(path: Path, seed: int, orientation: int = 1) -> None:
    """Write a HEIC of 60 x 40 pixels as stored, which EXIF's orientation turns."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    image_module = pytest.importorskip("PIL.Image")
    exif, out = image_module.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8).repeat(8, 0).repeat(12, 1)
    image_module.fromarray(pixels).save(out, "HEIF", exif=exif.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())


def phone(root: Path, suffix: str = ".HEIC") -> None:
    for n in range(8):
        heic(root / f"{'ab'[n % 2]}/{n}{suffix}", n, 6 if n % 3 else 1)


@pytest.mark.parametrize("suffix", [".HEIC", ".jpg"])
def test_heic_is_read_by_its_content(suffix: str, tmp_path: Path) -> None:
    phone(tmp_path / "data", suffix)
    assert "8 labelled images" in shitu("prepare", "data", cwd=tmp_path).stdout


def test_boxes_are_judged_in_the_upright_heic(tmp_path: Path) -> None:
    phone(tmp_path / "data")
    rows = "".join(f"{'ab'[n % 2]}/{n}.HEIC,{'ab'[n % 2]},2,2,38,{58 if n % 3 else 38}\n" for n in range(8))
    (tmp_path / "data/boxes.csv").write_text(f"filename,class,xmin,ymin,xmax,ymax\n{rows}")
    done = shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    assert "8 labelled images" in done.stdout and "cut-box" not in done.stdout and "bad-box" not in done.stdout


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone(tmp_path / "data")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else find(name))
    done = shitu("prepare", "data", cwd=tmp_path, check=False)
    assert done.returncode == 3 and re.search(r"hint: .*pip install pillow-heif", done.stderr), done.stderr
    many(tmp_path / "data", "{name}/{i}.jpg", 3)
    told = " ".join(shitu("prepare", "data", cwd=tmp_path).stdout.split())
    assert "12 labelled images" in told and "warning: heic 8" in told and "pip install pillow-heif" in told
