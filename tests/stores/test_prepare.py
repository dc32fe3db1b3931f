"""`prepare` reads archives as they lie, says what it took as the label, and asks where it could be something else."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from shitu_cli.data.lists import class_names, read_list
from shitu_cli.preparation.sources import find_images
from shitu_cli.stores import read_image
from shitu_cli.workspace import Workspace
from tests.command import shitu
from tests.stores.samples import NAMES, images, parquet_bytes, tar_bytes, write_folder, zip_bytes

CONTENT = images(4)
FLAT = {name.replace("/", "_"): data for name, data in CONTENT.items()}


def beside(suffix: str, label: str = "{k}") -> dict[str, bytes]:
    """Images without folders, each with its label beside it."""
    return {
        f"{name.rpartition('.')[0]}.{ending}": content
        for name, data in FLAT.items()
        for ending, content in (
            ("jpg", data),
            (suffix, label.format(k=NAMES.index(name.partition("_")[0]), name=name.partition("_")[0]).encode()),
        )
    }


def prepared(tmp_path: Path, source: str, *options: str) -> dict[bytes, str]:
    """Prepare a source without a split; return the name of the class by the bytes of the image."""
    shitu("-w", "ws", "prepare", source, "--split", "none", *options, cwd=tmp_path)
    listed = tmp_path / "ws/lists/train_list.txt"
    config = (tmp_path / "ws/shitu.yaml").read_text()
    root = (tmp_path / "ws" / config.partition("image_root: ")[2].partition("\n")[0]).resolve()
    part, names = read_list(listed), class_names(listed)
    return {read_image(part.location(n, root)): names[int(part.labels[n])] for n in range(len(part))}


EXPECTED = {data: name.partition("/")[0] for name, data in CONTENT.items()}
NUMBERED = {data: str(NAMES.index(label)) for data, label in EXPECTED.items()}


def test_folders_within_a_zip_or_tar_are_the_classes(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_bytes({f"photos/{name}": data for name, data in CONTENT.items()}))
    (tmp_path / "b.tar").write_bytes(tar_bytes({**CONTENT, "__MACOSX/kiwi/._0.jpg": b"x", "README.md": b"x"}))
    assert prepared(tmp_path, "a.zip") == EXPECTED
    assert prepared(tmp_path, "b.tar") == EXPECTED


def test_parquet_has_labels_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(CONTENT, row_group_size=5))
    assert prepared(tmp_path, "t.parquet") == EXPECTED


@pytest.mark.parametrize("suffix", ["cls", "json", "txt"])
def test_webdataset_shards_have_labels_beside_the_images(suffix: str, tmp_path: Path) -> None:
    label = {"cls": "{k}", "txt": "{name}\n", "json": '{{"label": "{name}", "width": 48}}'}[suffix]
    content = list(beside(suffix, label).items())
    write_folder(
        tmp_path / "shards",
        {f"shard-{n:03d}.tar": tar_bytes(dict(content[8 * n : 8 * n + 8])) for n in range(3)},
    )
    assert prepared(tmp_path, "shards") == (NUMBERED if suffix == "cls" else EXPECTED)


def test_shards_that_the_shell_lists_are_one_data_set(tmp_path: Path) -> None:
    content = list(beside("cls").items())
    for n in range(3):
        (tmp_path / f"s-{n}.tar").write_bytes(tar_bytes(dict(content[8 * n : 8 * n + 8])))
    write_folder(tmp_path, {"other.tar": b"not asked for", "kiwi.jpg": CONTENT["kiwi/0.jpg"], "labels.csv": b"a,b"})
    shown = shitu("-w", "ws", "prepare", "s-0.tar", "s-1.tar", "s-2.tar", "--split", "none", cwd=tmp_path).stdout
    assert "read as archives: 12 labelled images" in shown
    assert (tmp_path / "ws/lists/label_map.txt").read_text() == "0\t0\n1\t1\n2\t2\n"


def test_names_of_numbered_classes_stand_beside_the_shards(tmp_path: Path) -> None:
    write_folder(tmp_path / "d", {"s.tar": tar_bytes(beside("cls")), "classes.txt": "\n".join(NAMES).encode()})
    assert prepared(tmp_path, "d") == EXPECTED


def test_splits_by_the_names_of_archives_and_archives_as_classes(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "d",
        {
            "train-00000-of-00001.parquet": parquet_bytes(CONTENT),
            "validation-00000-of-00001.parquet": parquet_bytes(images(2)),
        },
    )
    shown = shitu("-w", "ws", "prepare", "d", cwd=tmp_path).stdout
    assert "splits by the names of the archives or folders: train 12, val 6" in shown
    assert len(read_list(tmp_path / "ws/lists/query_list.txt")) == 6
    by_class = {f"{name}.zip": zip_bytes({f"{n}.jpg": CONTENT[f"{name}/{n}.jpg"] for n in range(4)}) for name in NAMES}
    write_folder(tmp_path / "c", by_class)
    assert prepared(tmp_path, "c") == EXPECTED


def test_where_the_label_may_be_several_things_it_asks(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes(beside("json", '{{"class": "{name}", "category": {k}}}')))
    done = shitu("-w", "ws", "prepare", "a.tar", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "class, category" in done.stderr and "--columns label=class" in done.stderr
    assert prepared(tmp_path, "a.tar", "--columns", "label=category") == NUMBERED
    captions = {name: data + name.encode() if name.endswith("txt") else data for name, data in beside("txt").items()}
    (tmp_path / "c.tar").write_bytes(tar_bytes(captions))
    done = shitu("-w", "ws2", "prepare", "c.tar", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "captions or annotations" in done.stderr


def test_annotations_in_an_archive_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_bytes({**CONTENT, "annotations/instances.json": b"{}"}))
    done = shitu("-w", "ws", "prepare", "a.zip", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "annotations/instances.json" in done.stderr and "unzip" in done.stderr
    hint = next(line for line in done.stderr.splitlines() if "label=folders" in line)
    insist = hint.partition("if the folders are the labels: shitu ")[2]
    shitu(*shlex.split(insist), cwd=tmp_path)
    assert len(read_list(tmp_path / "ws/lists/train_list.txt")) == 9
    write_folder(tmp_path / "d", {"images.zip": zip_bytes(FLAT), "train.csv": b"file,label\nkiwi_0.jpg,kiwi\n"})
    done = shitu("-w", "ws2", "prepare", "d", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "the labels may be in d/train.csv" in done.stderr


def test_lists_name_members(tmp_path: Path) -> None:
    write_folder(tmp_path / "d", {"s.tar": tar_bytes(FLAT)})
    lines = "".join(f"s.tar::{name} {name.partition('_')[0]}\n" for name in FLAT)
    (tmp_path / "d/list.txt").write_text(lines)
    assert prepared(tmp_path, "d/list.txt") == EXPECTED
    (tmp_path / "d/list.txt").write_text(lines + "s.tar::nobody.jpg kiwi\n")
    done = shitu("-w", "ws", "prepare", "d/list.txt", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "error: missing" in done.stdout + done.stderr


def test_a_bad_image_in_a_shard_is_reported_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes({**CONTENT, "kiwi/9.jpg": b"no image", "kiwi/../../8.jpg": b""}))
    done = shitu("-w", "ws", "prepare", "a.tar", "--json", cwd=tmp_path, check=False)
    kinds = {problem["kind"]: problem for problem in json.loads(done.stdout)["problems"]}
    assert done.returncode == 3 and kinds["not-an-image"]["examples"][0]["where"] == "a.tar::kiwi/9.jpg"
    shitu("-w", "ws", "prepare", "a.tar", "--fix", cwd=tmp_path)
    assert len(read_list(tmp_path / "ws/lists/train_list.txt")) == 9


def test_a_truncated_shard_ends_in_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes(CONTENT)[:-11_000])
    done = shitu("-w", "ws", "prepare", "a.tar", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "a.tar: the file ends too early" in done.stderr
    assert not (tmp_path / "ws/lists/train_list.txt").exists()


def test_images_of_archives_for_extract_index_and_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "d", {"a.tar": tar_bytes(CONTENT), "b.zip": zip_bytes(CONTENT)})
    for sources in (["d"], ["d/*.tar", "d/b.zip"], ["d/a.tar", "d/b.zip"]):
        found = find_images(sources)
        assert [(read_image(file), label) for file, label in zip(found.files, found.labels, strict=True)] == [
            *EXPECTED.items(),
            *EXPECTED.items(),
        ]
    one = find_images(["d/a.tar::kiwi/0.jpg"])
    assert (one.files, one.labels) == (["d/a.tar::kiwi/0.jpg"], ["kiwi"])
    (tmp_path / "flat.tar").write_bytes(tar_bytes(FLAT))
    (tmp_path / "t.parquet").write_bytes(parquet_bytes(CONTENT))
    for source in ("flat.tar", "t.parquet"):
        found = find_images([source], folder_labels=False)
        assert [read_image(file) for file in found.files] == list(CONTENT.values()) and set(found.labels) == {""}
    assert find_images(["flat.tar"]).labels == [""] * len(FLAT)


def test_shards_named_one_by_one_are_indexed_after_prepare(tmp_path: Path) -> None:
    content = images(4)
    for name in ("a", "b"):
        part = {path: data for path, data in content.items() if path.startswith("kiwi") == (name == "a")}
        (tmp_path / f"{name}.tar").write_bytes(tar_bytes(part))
    shitu("prepare", "a.tar", "b.tar", cwd=tmp_path)
    found = find_images(
        [str(tmp_path / "a.tar"), str(tmp_path / "b.tar")], lambda path: None, workspace=Workspace(tmp_path)
    )
    labels = {f"{Path(file).parent.name}": label for file, label in zip(found.files, found.labels, strict=True)}
    assert len(found) == len(content) and set(labels.values()) == {"kiwi", "leek", "plum"}
