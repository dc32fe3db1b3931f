"""Members are read where they lie, the same bytes as from files, by any number of threads."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shitu_cli.errors import DataError
from shitu_cli.stores import absolute, join, open_archive, read_image, split_location, state_of
from shitu_cli.stores import ranges as ranges_module
from shitu_cli.stores.locations import address_of, is_stored, real
from shitu_cli.stores.member_index import MemberIndex
from tests.stores.samples import images, parquet_bytes, tar_bytes, zip_bytes

WRITERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {"tar": tar_bytes, "zip": zip_bytes, "parquet": parquet_bytes}


@pytest.mark.parametrize(
    ("location", "parts"),
    [
        ("a/b.jpg", ("a/b.jpg", None)),
        ("s.tar::a/b.jpg", ("s.tar", "a/b.jpg")),
        ("x::y/s.TAR::a::b.jpg", ("x::y/s.TAR", "a::b.jpg")),
        ("x::y.jpg", ("x::y.jpg", None)),
        ("s3://bucket/s.zip::a.jpg", ("s3://bucket/s.zip", "a.jpg")),
    ],
)
def test_a_location_is_an_archive_and_its_member(location: str, parts: tuple[str, str | None]) -> None:
    assert split_location(location) == parts
    assert is_stored(location) == (parts[1] is not None)


def test_addresses_stay_whole_whatever_they_are_joined_to() -> None:
    assert join("/data", "s3://bucket/a.jpg") == "s3://bucket/a.jpg"
    assert join("s3://bucket/data", "a/b.jpg") == join("s3:/bucket/data", "a/b.jpg") == "s3://bucket/data/a/b.jpg"
    assert join("/data", "s.tar::a.jpg") == "/data/s.tar::a.jpg"
    assert str(Path("s3://bucket/a")) == "s3:/bucket/a" and address_of(Path("s3://bucket/a")) == "s3://bucket/a"
    assert absolute("s3://bucket/../a") == "s3://bucket/../a"
    assert absolute("x/../s.tar::../a.jpg") == os.path.abspath("s.tar") + "::../a.jpg" == real("x/../s.tar::../a.jpg")
    assert address_of("c:/windows/a.jpg") is None and address_of("file:///etc/a.jpg") is None


@pytest.mark.parametrize("kind", WRITERS)
def test_members_are_the_bytes_of_the_files_in_any_order(kind: str, tmp_path: Path) -> None:
    content = images()
    path = tmp_path / f"a.{kind}"
    path.write_bytes(WRITERS[kind](content))
    members = open_archive(path).index.names()
    pairs = list(zip(members, content.values(), strict=True))
    wanted = [pairs[(7 * n) % len(pairs)] for n in range(3 * len(pairs))]
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda pair: read_image(f"{path}::{pair[0]}"), wanted))
    assert read == [data for _, data in wanted]


def test_more_archives_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges_module, "OPEN_FILES", 2)
    for n in range(6):
        (tmp_path / f"{n}.tar").write_bytes(tar_bytes({"a.jpg": bytes([n]) * 9}))
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda n: read_image(f"{tmp_path}/{n % 6}.tar::a.jpg"), range(120)))
    assert read == [bytes([n % 6]) * 9 for n in range(120)]
    assert len(ranges_module._open) <= 2


def test_an_index_is_made_once_and_again_when_the_archive_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes({"a.jpg": b"1" * 600, "a.cls": b"7"}))
    first = open_archive(path)
    again = MemberIndex.load(str(path), first.file.state)
    assert again is not None and again.names() == ["a.jpg", "a.cls"]
    assert again.find("a.jpg") == first.index.find("a.jpg") and again.text("a.cls") == b"7"
    assert again.find("b.jpg") is None and again.text("a.jpg") is None
    before = state_of(f"{path}::a.jpg")
    path.write_bytes(tar_bytes({"b.jpg": b"2", "a.jpg": b"3" * 600}))
    assert read_image(f"{path}::a.jpg") == b"3" * 600 and state_of(f"{path}::a.jpg") != before
    assert MemberIndex.load(str(path), "another state") is None
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.tar"], "nothing is written beside the user's data"


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes({"a.jpg": b"1" * 600}))
    state = open_archive(path).file.state
    for kept in Path(os.environ["SHITU_CACHE"]).rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:60])
    assert MemberIndex.load(str(path), state) is None


def test_the_last_member_of_a_name_counts_and_hard_links_lead_to_theirs(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes({"a.jpg": b"old", "b.jpg": b"b"}))
    (tmp_path / "new.jpg").write_bytes(b"new")
    with tarfile.open(path, "a") as archive:
        archive.add(tmp_path / "new.jpg", "a.jpg")
        link = tarfile.TarInfo("c.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "b.jpg"
        archive.addfile(link)
        link = tarfile.TarInfo("d.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert read_image(f"{path}::a.jpg") == b"new" and read_image(f"{path}::c.jpg") == b"b"
    with pytest.raises(DataError, match=r"no member 'd\.jpg'"):
        read_image(f"{path}::d.jpg")


def test_long_and_odd_names(tmp_path: Path) -> None:
    names = ["x" * 150 + "/" + "y" * 150 + ".jpg", "größe 图.jpg", "a::b.jpg", "../../up.jpg", "/abs.jpg"]
    for kind, write in (("tar", tar_bytes), ("zip", zip_bytes)):
        path = tmp_path / f"a.{kind}"
        path.write_bytes(write({name: name.encode() for name in names}))
        assert [read_image(f"{path}::{name}") for name in names] == [name.encode() for name in names]


@pytest.mark.parametrize(("kind", "write"), [("tar", tar_bytes), ("zip", zip_bytes)])
def test_an_archive_of_a_whole_folder(kind: str, write: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    """`tar -cf a.tar -C data .` writes ./ before each name; users of lists do not."""
    path = tmp_path / f"a.{kind}"
    path.write_bytes(write({"./kiwi/0.jpg": b"0", "./kiwi/0.cls": b"1"}))
    assert open_archive(path).index.names() == ["kiwi/0.jpg", "kiwi/0.cls"]
    assert read_image(f"{path}::kiwi/0.jpg") == read_image(f"{path}::./kiwi/0.jpg") == b"0"


def test_stored_and_deflated_members_of_a_zip(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / f"{method}.zip"
        path.write_bytes(zip_bytes({"a.bmp": b"BM" + b"\0" * 5000, "empty.jpg": b""}, method))
        assert read_image(f"{path}::a.bmp") == b"BM" + b"\0" * 5000 and read_image(f"{path}::empty.jpg") == b""
