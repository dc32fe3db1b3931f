"""What the program proposes where annotations can be read in several ways, taken by its word."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.command import shitu
from tests.preparation.annotation_trees import coco, draw_all, voc, write, write_json

NAMES = [f"{n}.jpg" for n in range(12)]
BRANDS, COLOURS = ("lada", "volvo"), ("red", "blue", "green")


def via(root: Path) -> None:
    shape = {"name": "rect", "x": 16, "y": 18, "width": 32, "height": 12}
    images: dict[str, Any] = {}
    for n, name in enumerate(NAMES):
        attributes = {"brand": BRANDS[n % 2], "colour": COLOURS[n % 3]}
        regions = [{"shape_attributes": shape, "region_attributes": attributes}]
        images[f"{name}1"] = {"filename": name, "size": 1, "regions": regions, "file_attributes": {}}
    write_json(root / "via.json", images)


def groundtruth(root: Path) -> None:
    lines = [
        {
            "source-ref": name,
            "brand": n % 2,
            "brand-metadata": {"class-name": BRANDS[n % 2]},
            "colour": n % 3,
            "colour-metadata": {"class-name": COLOURS[n % 3]},
        }
        for n, name in enumerate(NAMES)
    ]
    write(root / "output.manifest", "".join(json.dumps(line) + "\n" for line in lines))


def labelstudio(root: Path) -> None:
    rows = [f"{name},{n},{BRANDS[n % 2]},{COLOURS[n % 3]},1,{n},x,1.5" for n, name in enumerate(NAMES)]
    header = "image,id,brand,colour,annotator,annotation_id,created_at,lead_time"
    write(root / "project.csv", "\n".join([header, *rows]))


def fiftyone(root: Path) -> None:
    samples = [
        {
            "filepath": name,
            "brand": {"_cls": "Classification", "label": BRANDS[n % 2]},
            "colour": {"_cls": "Classification", "label": COLOURS[n % 3]},
        }
        for n, name in enumerate(NAMES)
    ]
    write_json(root / "samples.json", {"samples": samples})


def imagefolder(root: Path) -> None:
    rows = [{"file_name": name, "brand": BRANDS[n % 2], "colour": COLOURS[n % 3]} for n, name in enumerate(NAMES)]
    write(root / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


def records(root: Path) -> None:
    rows = [{"image": name, "brand": BRANDS[n % 2], "colour": COLOURS[n % 3]} for n, name in enumerate(NAMES)]
    write_json(root / "cars.json", rows)


@pytest.mark.parametrize("build", [via, groundtruth, labelstudio, fiftyone, imagefolder, records])
def test_of_two_attributes_the_one_that_the_hint_names_is_read(build: Any, tmp_path: Path) -> None:
    draw_all(tmp_path / "data", *NAMES)
    build(tmp_path / "data")
    refused = shitu("-w", "ws", "prepare", "data", cwd=tmp_path, check=False)
    assert refused.returncode == 2
    said = " ".join((refused.stdout + refused.stderr).split())
    assert "brand" in said and "colour" in said
    way = re.search(r"--columns (\S*label=brand)", said)
    assert way is not None, said
    shitu("-w", "ws", "prepare", "data", "--columns", way[1], cwd=tmp_path)
    names = (tmp_path / "ws/lists/label_map.txt").read_text()
    assert names == "0\tlada\n1\tvolvo\n"


def test_two_tools_that_disagree_are_refused_and_the_format_named_is_read(tmp_path: Path) -> None:
    draw_all(tmp_path / "data", *NAMES)
    for n, name in enumerate(NAMES):
        write(tmp_path / "data" / name.replace("jpg", "xml"), voc(name, (BRANDS[n % 2], 16, 18, 48, 30)))
        write(tmp_path / "data" / name.replace("jpg", "txt"), f"{n % 3} 0.5 0.5 0.5 0.25\n")
    write(tmp_path / "data/classes.txt", "red\nblue\ngreen\n")
    refused = shitu("-w", "ws", "prepare", "data", cwd=tmp_path, check=False)
    said = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode == 2 and "--format voc" in said and "--format yolo" in said
    shitu("-w", "ws", "prepare", "data", "--format", "yolo", cwd=tmp_path)
    assert "green" in (tmp_path / "ws/lists/label_map.txt").read_text()


def test_two_files_for_one_image_are_refused_and_the_one_named_is_read(tmp_path: Path) -> None:
    draw_all(tmp_path / "data", *NAMES)
    for file, names in (("old.json", BRANDS), ("new.json", ("cat", "dog"))):
        write_json(tmp_path / "data" / file, coco(NAMES, [(n, n % 2 + 1, [16, 18, 32, 12]) for n in range(12)], names))
    refused = shitu("-w", "ws", "prepare", "data", cwd=tmp_path, check=False)
    said = " ".join((refused.stdout + refused.stderr).split())
    way = re.search(r"shitu (prepare \S+\.json -w ws)", said)
    assert refused.returncode == 2 and way is not None, said
    shitu(*shlex.split(way[1]), cwd=tmp_path)
    names = (tmp_path / "ws/lists/label_map.txt").read_text()
    assert names == ("0\tcat\n1\tdog\n" if "new" in way[1] else "0\tlada\n1\tvolvo\n")


def test_problems_name_the_entry_and_fix_leaves_out_what_is_wrong(tmp_path: Path) -> None:
    draw_all(tmp_path / "data", *NAMES)
    objects = [(n, n % 2 + 1, [16.0, 18.0, 32.0, 12.0]) for n in range(12)]
    value = coco([*NAMES, "gone.jpg"], [*objects, (12, 1, [1, 2, 30, 40]), (0, 7, [1, 2, 30, 40])], BRANDS)
    write_json(tmp_path / "data/labels.json", value)
    refused = shitu("-w", "ws", "prepare", "data", cwd=tmp_path, check=False)
    said = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode == 3
    for words in ("gone.jpg", "images[12]", "annotations[13]", "category_id 7", "--fix"):
        assert words in said
    shitu("-w", "ws", "prepare", "data", "--fix", cwd=tmp_path)
    assert len((tmp_path / "ws/lists/gallery_list.txt").read_text().splitlines()) == 10


def test_options_that_annotations_do_not_have_are_refused(tmp_path: Path) -> None:
    draw_all(tmp_path / "data", *NAMES)
    via(tmp_path / "data")
    refused = shitu("prepare", "data", "--format", "via", "--columns", "split=part", cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "split" in refused.stderr


def test_an_evaluation_in_which_nothing_can_be_found_is_refused(tmp_path: Path) -> None:
    """Folders of train and val that call the classes differently, with one image of each in val."""
    draw_all(tmp_path / "data/train", *(f"{name}/{n}.jpg" for name in BRANDS for n in range(3)))
    draw_all(tmp_path / "data/val", *(f"{name.upper()}-x/0.jpg" for name in BRANDS))
    refused = shitu("prepare", "data", "-w", "ws", cwd=tmp_path, check=False)
    said = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode == 3 and "none of 2 queries has another image of its class to find" in said
    assert "val/LADA-x/0.jpg is 'LADA-x'" in said and "training images only" in said
    shitu("prepare", "data/train", "-w", "ws", "--split", "none", cwd=tmp_path)
