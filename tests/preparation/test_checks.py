"""Lines that name an image again, in one list or in several."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import shitu
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import many


def test_an_image_in_two_lists_under_two_labels_is_a_problem_with_both_lines(tmp_path: Path) -> None:
    """Each list by itself is right; together one of them spoils the evaluation."""
    right = {path: "0123"[int(path[4])] for path in many(tmp_path / "data", "img/{k}_{i}.jpg", 6)}
    parts = {"train": "012", "query": "3", "gallery": "45"}
    lines = {
        part: [f"{path}\t{label}\n" for path, label in right.items() if path[6] in numbers]
        for part, numbers in parts.items()
    }
    lines["gallery"] += ["img/2_3.jpg\t3\n", "img/1_0.jpg\t2\n", lines["gallery"][0]]
    for part, texts in lines.items():
        write(tmp_path / f"data/{part}_list.txt", "".join(texts))
    done = shitu("prepare", "data", "--json", cwd=tmp_path, check=False)
    problems = {item["kind"]: item for item in json.loads(done.stdout)["problems"]}
    assert done.returncode == 3 and problems["duplicate-line"]["count"] == 1
    assert problems["label-conflict"]["examples"] == [
        {"where": "data/query_list.txt:3 (img/2_3.jpg)", "detail": "'3' at data/gallery_list.txt:9, '2' here"},
        {"where": "data/train_list.txt:4 (img/1_0.jpg)", "detail": "'2' at data/gallery_list.txt:10, '1' here"},
    ]
    shitu("prepare", "data", "--fix", cwd=tmp_path)
    for part, rows in lines.items():
        left = (tmp_path / f"lists/{part}_list.txt").read_text()
        assert "2_3.jpg" not in left and "1_0.jpg" not in left
        assert len(left.splitlines()) == len(rows) - (3 if part == "gallery" else 1)
