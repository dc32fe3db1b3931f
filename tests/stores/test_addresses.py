"""Images at addresses, read from a real server of the S3 protocol and one of HTTP on this machine."""

from __future__ import annotations

import functools
import http.server
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shitu_cli import stores
from shitu_cli.config.schema import DatasetConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.lists import class_names, read_list
from shitu_cli.data.loader import SequentialLoader
from shitu_cli.data.transforms import Transform
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features.extractor import InputDataset
from shitu_cli.preparation.sources import find_images
from shitu_cli.runtime.threads import compute_threads
from shitu_cli.stores import read_image, remote, state_of
from shitu_cli.stores.cache import Pieces
from tests.command import shitu
from tests.stores.samples import images, parquet_bytes, tar_bytes, zip_bytes

pytest.importorskip("s3fs")
moto = pytest.importorskip(
    "moto.server", reason="no server of the S3 protocol: pip install 'moto[s3]' flask flask-cors"
)
CONTENT = images(4)
EXPECTED = [name.partition("/")[0] for name in CONTENT]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """fsspec's file system of a server with the images in `shop`, as files, tar, zip and Parquet."""
    import fsspec

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        system = fsspec.filesystem("s3")
        system.mkdir("shop")
        for name, data in CONTENT.items():
            system.pipe_file(f"shop/files/{name}", data)
        system.pipe_file("shop/packed/a.tar", tar_bytes(CONTENT))
        system.pipe_file("shop/a.zip", zip_bytes(CONTENT))
        system.pipe_file("shop/a.parquet", parquet_bytes(CONTENT))
        yield system
        server.stop()
    system.clear_instance_cache()
    remote._states.clear()
    remote._pieces.cache_clear()


@pytest.mark.parametrize("source", ["files", "packed", "packed/a.tar", "a.zip", "a.parquet"])
def test_the_bytes_at_an_address_are_those_of_the_files(source: str, bucket: Any) -> None:
    found = find_images([f"s3://shop/{source}"])
    assert all(file.startswith("s3://shop/") for file in found.files)
    assert [read_image(file) for file in found.files] == list(CONTENT.values()) and found.labels == EXPECTED


def test_what_was_read_is_not_read_again(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    location = "s3://shop/files/kiwi/0.jpg"
    assert read_image(location) == CONTENT["kiwi/0.jpg"]

    def refuse(*args: object, **kwargs: object) -> bytes:
        raise AssertionError("read again")

    monkeypatch.setattr(bucket, "cat_file", refuse)
    assert read_image(location) == CONTENT["kiwi/0.jpg"]


def test_a_list_tells_the_states_of_its_files(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request for a thousand files: not one more for each, nor a search of the whole folder for each."""
    remote._states.clear()
    locations = [f"s3://shop/files/{name}" for name in CONTENT]
    asked = [state_of(location) for location in locations]
    remote._states.clear()
    assert [f"s3://shop/files/{name}" for name in stores.list_files("s3://shop/files/")] == sorted(locations)
    assert not any("files" in folder for folder in bucket.dircache), "fsspec keeps a kilobyte a file"

    def refuse(*args: object, **kwargs: object) -> dict[str, object]:
        raise AssertionError("asked again")

    monkeypatch.setattr(bucket, "info", refuse)
    assert [state_of(location) for location in locations] == asked and None not in asked


def test_as_many_states_are_remembered_as_there_is_room_for(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch asks for all images: to forget the oldest would mean to ask for every one again."""
    monkeypatch.setattr(remote, "ADDRESSES", 3)
    remote._states.clear()
    requests, info = list[str](), bucket.info

    def counted(path: str, **options: Any) -> Any:
        requests.append(path)
        return info(path, **options)

    monkeypatch.setattr(bucket, "info", counted)
    names = [f"s3://shop/files/{name}" for name in CONTENT]
    states = [state_of(name) for name in names]
    assert requests == names
    assert [state_of(name) for name in names] == states and requests == names + names[3:]
    bucket.pipe_file("shop/files/kiwi/0.jpg", CONTENT["kiwi/0.jpg"] + b"more")
    list(stores.list_files("s3://shop/files"))
    assert state_of(names[0]) not in states, "a list tells what has changed, however many are remembered"
    bucket.pipe_file("shop/files/kiwi/0.jpg", CONTENT["kiwi/0.jpg"])
    remote._states.clear()


def test_the_state_changes_with_the_content(bucket: Any) -> None:
    bucket.pipe_file("shop/changing.jpg", b"one")
    before = state_of("s3://shop/changing.jpg")
    bucket.pipe_file("shop/changing.jpg", b"two")
    bucket.invalidate_cache()
    remote._states.clear()
    assert before is not None and before != state_of("s3://shop/changing.jpg")
    assert read_image("s3://shop/changing.jpg") == b"two"


def test_prepare_from_a_bucket(bucket: Any, tmp_path: Path) -> None:
    for source in ("s3://shop/files", "s3://shop/packed"):
        shitu("-w", "ws", "prepare", source, "--split", "none", cwd=tmp_path)
        listed = tmp_path / "ws/lists/train_list.txt"
        part, names = read_list(listed), class_names(listed)
        assert [names[int(label)] for label in part.labels] == EXPECTED
        assert [read_image(part.location(n, tmp_path)) for n in range(len(part))] == list(CONTENT.values())
    assert "as in the last run: --split none" in shitu("-w", "ws", "prepare", "s3://shop/packed", cwd=tmp_path).stdout


def test_a_list_of_addresses(bucket: Any, tmp_path: Path) -> None:
    lines = "".join(f"s3://shop/files/{name}\t{name.partition('/')[0]}\n" for name in CONTENT)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "list.txt").write_text(lines)
    (tmp_path / "other").mkdir()  # an image beside the list's folder that is called like one of the list
    (tmp_path / "other/0.jpg").write_bytes(CONTENT["kiwi/0.jpg"])
    shitu("-w", "ws", "prepare", "list.txt", "--split", "none", cwd=folder)
    assert read_list(folder / "ws/lists/train_list.txt").path(0) == "s3://shop/files/kiwi/0.jpg"
    (folder / "list.txt").write_text(lines + "s3://shop/files/nobody.jpg\tkiwi\n")
    done = shitu("-w", "ws2", "prepare", "list.txt", cwd=folder, check=False)
    assert done.returncode == 3 and "nobody.jpg" in done.stdout


def test_what_is_not_there_and_what_cannot_be_listed(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s3://shop/nobody\.jpg: there is no such file"):
        read_image("s3://shop/nobody.jpg")
    done = shitu("-w", "ws", "prepare", "s3://shop/nothing", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "s3://shop/nothing: no files there" in done.stderr
    done = shitu("-w", "ws", "prepare", "https://localhost/images", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "a web server cannot list its files" in done.stderr


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server without ranges, as Python's own."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/a.jpg").write_bytes(CONTENT["kiwi/0.jpg"])
    (tmp_path / "web/a.zip").write_bytes(zip_bytes(CONTENT))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "web"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_images_and_archives_of_a_web_server(web: str) -> None:
    assert read_image(f"{web}/a.jpg") == CONTENT["kiwi/0.jpg"]
    assert read_image(f"{web}/a.zip::leek/1.jpg") == CONTENT["leek/1.jpg"]
    with pytest.raises(DataError, match="no such file"):
        read_image(f"{web}/b.jpg")
    with pytest.raises(DataError, match="too large"):
        read_image(f"{web}/a.jpg", limit=100)


def test_a_server_that_is_not_there_is_a_problem_of_the_machine() -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot read http://127\.0\.0\.1:9/a\.jpg: "):
        read_image("http://127.0.0.1:9/a.jpg")


@pytest.mark.parametrize(
    ("protocol", "packages"), [("s3", "fsspec s3fs"), ("gs", "fsspec gcsfs"), ("hdfs", "fsspec pyarrow")]
)
def test_a_missing_package_says_how_to_install_it(
    protocol: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"no package for {name}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(EnvironmentProblem, match=f"{protocol}://.*no package for {protocol}") as caught:
        read_image(f"{protocol}://shop/a.jpg")
    assert caught.value.hint is not None and caught.value.hint.startswith("pip install ")
    assert all(name in caught.value.hint for name in packages.split())


@pytest.mark.parametrize(
    ("reason", "hint"), [("Unable to load libjvm\ndlopen ...", "JAVA_HOME"), ("HDFS connection failed", "the network")]
)
def test_hadoop_that_is_not_there_is_a_problem_of_the_machine(
    reason: str, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Hadoop:
        def __init__(self, **options: object) -> None:
            raise OSError(reason)

        @staticmethod
        def _get_kwargs_from_urls(address: str) -> dict[str, object]:
            return {}

    monkeypatch.setattr("fsspec.get_filesystem_class", lambda protocol: Hadoop)
    done = shitu("-w", "ws", "prepare", "hdfs://host:8020/images", cwd=tmp_path, check=False)
    first = reason.partition("\n")[0]
    assert done.returncode == 5 and f"cannot read hdfs://host:8020/images: {first}" in done.stderr, done.stderr
    assert hint in done.stderr and "dlopen" not in done.stderr


@pytest.mark.parametrize("protocol", ["gs", "hdfs"])
def test_other_services_are_read_through_the_same_door(
    protocol: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The memory of fsspec stands for Google's storage and Hadoop's."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Service(MemoryFileSystem):
        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.replace(f"{protocol}://", "memory://")))

        @staticmethod
        def _get_kwargs_from_urls(address: str) -> dict[str, object]:
            return {}

    monkeypatch.setattr("fsspec.get_filesystem_class", lambda name: Service)
    system = Service()
    for name, data in CONTENT.items():
        system.pipe_file(f"{protocol}://{tmp_path.name}/{name}", data)
    shitu("-w", "ws", "prepare", f"{protocol}://{tmp_path.name}", "--split", "none", cwd=tmp_path)
    part = read_list(tmp_path / "ws/lists/train_list.txt")
    assert [read_image(part.location(n, tmp_path)) for n in range(len(part))] == list(CONTENT.values())


def test_more_threads_read_from_addresses_than_compute(tmp_path: Path) -> None:
    counts = []
    for name in ("a.jpg", "s3://shop/a.jpg", "s3://shop/a.tar::a.jpg", "a.tar::a.jpg"):
        (tmp_path / "l.txt").write_text(f"{name}\t0\n" * 40)
        dataset = RecDataset(DatasetConfig("ImageNetDataset", str(tmp_path), str(tmp_path / "l.txt")))
        counts.append(SequentialLoader(dataset, 4)._reader.workers)
    assert counts == [compute_threads(), *[max(16, compute_threads())] * 2, compute_threads()]
    assert InputDataset([b"", "s3://shop/a.jpg"], Transform(())).is_remote
    assert not InputDataset([b"", "a.jpg"], Transform(())).is_remote


def test_pieces_stay_within_their_bound(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, 10_000)
    for n in range(40):
        pieces.write(f"{n:02d}", bytes([n]) * 700)
        if n == 0:
            os.utime(tmp_path / "pieces/00/00", (0, 0))
        assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= 10_000
    assert pieces.read("39") == bytes([39]) * 700 and pieces.read("00") is None
    pieces.write("large", b"x" * 5000)
    assert pieces.read("large") is None, "one that would push out all others is not kept"
