"""Wrong input: a clear message with the way out, the right exit code, and nothing of the user's lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.command import SMALL, shitu
from tests.conftest import MakeImages


def fails(*args: str, cwd: Path, code: int, says: tuple[str, ...]) -> str:
    """Run, expect the exit code and every text, and no traceback."""
    done = shitu(*args, cwd=cwd, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    for part in says:
        assert part in text, text
    assert "Traceback" not in text
    return text


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_no_such_folder(tmp_path: Path) -> None:
    fails("prepare", "./pictures", cwd=tmp_path, code=2, says=("no such folder or file: pictures",))
    assert not list(tmp_path.iterdir())


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    fails("prepare", "data", cwd=tmp_path, code=3, says=("data is empty", "folder named after it"))


def test_one_class_only(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=1)
    fails("prepare", "data", cwd=tmp_path, code=3, says=("only one class", "at least two"))


def test_inside_the_users_pictures(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path)
    before = snapshot(tmp_path)
    fails("prepare", ".", cwd=tmp_path, code=2, says=("inside your images", "-w"))
    assert snapshot(tmp_path) == before


def test_the_state_as_json(tmp_path: Path) -> None:
    fails("--json", cwd=tmp_path, code=2, says=("no workspace",))
    fails("--json", "models", cwd=tmp_path, code=2, says=("--json goes after the command", "at the end of the line"))
    for words in (("index", "add", ""), ("search", "x.jpg", "--index="), ("-w", "", "index", "show")):
        fails(*words, cwd=tmp_path, code=2, says=("an empty argument after", "not set?"))


@pytest.fixture
def damaged(tmp_path: Path, make_images: MakeImages) -> Path:
    """A list with every kind of wrong line and file."""
    data = tmp_path / "data"
    made = make_images(data / "img", classes=3, per_class=6)
    files = [f"img/{f.parent.name}/{f.name}" for group in made.values() for f in group]
    jpeg = (data / files[0]).read_bytes()
    (data / "img/text.jpg").write_text("not a picture")
    (data / "img/zero.jpg").write_bytes(b"")
    (data / "img/cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (data / "img/mit Blank.jpg").write_bytes(jpeg[:-2] + b"\xff\xfe\x00\x04ab\xff\xd9")
    (data / "img/红色.jpg").write_bytes(jpeg[:-2] + b"\xff\xfe\x00\x04cd\xff\xd9")
    lines = [f"{path} {k // 6}" for k, path in enumerate(files)]
    lines += ["img/text.jpg 0", "img/zero.jpg 1", "img/cut.jpg 2", "img/gone.jpg 2", "img/class_000/001.jpg 2"]
    lines += ["img/mit Blank.jpg 0", "img/红色.jpg 0", "img/class_000/000.jpg", "img/class_000/002.jpg zwei", ""]
    (data / "train_list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return tmp_path


def test_all_problems_at_once_and_nothing_written(damaged: Path) -> None:
    before = snapshot(damaged / "data")
    text = fails(
        "prepare",
        "data",
        cwd=damaged,
        code=3,
        says=(
            "missing",
            "img/gone.jpg",
            "not-an-image",
            "empty-file",
            "truncated",
            "label-conflict",
            "malformed",
            "odd-label",
            "'zwei'",
            "train_list.txt:26",
            "--fix",
        ),
    )
    assert "mit Blank" not in text.partition("label-noise")[0].partition("missing")[2].partition("malformed")[0]
    assert snapshot(damaged / "data") == before
    assert not (damaged / "shitu.yaml").exists() and not (damaged / "lists").exists()
    assert (damaged / "reports/prepare.html").exists()


def test_fix_leaves_them_out(damaged: Path) -> None:
    before = snapshot(damaged / "data")
    done = shitu("prepare", "data", "--fix", "--split", "none", cwd=damaged)
    assert "left out" in done.stdout
    text = (damaged / "lists/train_list.txt").read_text()
    assert "img/红色.jpg\t0" in text and "img/mit Blank.jpg\t0" in text
    assert not any(name in text for name in ("gone", "zero", "cut", "text.jpg", "class_000/001"))
    assert snapshot(damaged / "data") == before


def test_strict_makes_warnings_errors(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=3, per_class=4)
    made["class_000"][0].rename(tmp_path / "data/class_000/x.jpg")
    (tmp_path / "data/class_000/y.jpg").write_bytes((tmp_path / "data/class_000/x.jpg").read_bytes())
    shitu("prepare", "data", cwd=tmp_path)
    fails("prepare", "data", "--strict", cwd=tmp_path, code=3, says=("duplicate",))


def test_classes_that_differ_by_case(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    (tmp_path / "data/class_000").rename(tmp_path / "data/Class_001")
    done = shitu("prepare", "data", cwd=tmp_path)
    assert "similar-labels" in done.stdout and "'Class_001' and 'class_001'" in done.stdout


def test_labels_are_kept_when_classes_are_added(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=4)
    (tmp_path / "data/class_000").rename(tmp_path / "zzz")
    shitu("prepare", "data", cwd=tmp_path)
    first = (tmp_path / "lists/label_map.txt").read_text()
    (tmp_path / "zzz").rename(tmp_path / "data/a_new_class")
    done = shitu("prepare", "data", cwd=tmp_path)
    assert (tmp_path / "lists/label_map.txt").read_text() == first + "3\ta_new_class\n"
    assert "Arch.Head.class_num: 3 → 4" in done.stdout


def test_the_config_keeps_its_comments_and_the_users_changes(workspace: Path) -> None:
    config = workspace / "shitu.yaml"
    text = config.read_text().replace("epochs: 180", "epochs: 7 # mine").replace("class_num: 6", "class_num: 9")
    config.write_text(text)
    shitu("prepare", "data", cwd=workspace)
    assert config.read_text() == text.replace("class_num: 9", "class_num: 6")


def test_a_step_without_a_workspace(tmp_path: Path) -> None:
    fails("train", cwd=tmp_path, code=2, says=("no workspace", "shitu prepare ./data"))


def test_steps_in_the_wrong_order(workspace: Path) -> None:
    fails("export", "--out", "inference/", cwd=workspace, code=2, says=("no trained weights", "shitu train"))
    fails("evaluate", cwd=workspace, code=2, says=("no trained weights", "shitu train"))
    fails("search", "data/class_000/000.jpg", cwd=workspace, code=2, says=("no index", "shitu index build"))
    fails("extract", "data", cwd=workspace, code=2, says=("neither an exported model nor a checkpoint",))
    assert not (workspace / "inference").exists()


def test_the_current_directory_is_no_model(workspace: Path) -> None:
    fails("evaluate", "--model", ".", cwd=workspace, code=3, says=("holds no inference.pdmodel",))
    fails("export", "--checkpoint", ".", cwd=workspace, code=2, says=("no trained weights",))


def test_misspelt_config_keys(workspace: Path) -> None:
    config = workspace / "shitu.yaml"
    config.write_text(config.read_text().replace("  epochs:", "  epoch:").replace("momentum: 0.9", "momentun: 0.9"))
    line = 1 + config.read_text().splitlines().index(next(x for x in config.read_text().splitlines() if "epoch:" in x))
    says = (f"shitu.yaml:{line}", "did you mean epochs?", "did you mean momentum?", "2 problems")
    fails("train", cwd=workspace, code=4, says=says)


def test_a_class_count_edited_to_the_wrong_number(workspace: Path) -> None:
    config = workspace / "shitu.yaml"
    config.write_text(config.read_text().replace("class_num: 6", "class_num: 5"))
    fails("train", cwd=workspace, code=4, says=("has 6 classes", "got 5, expected 6", "-o Arch.Head.class_num=6"))


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a way to fail writing")
def test_an_output_directory_that_cannot_be_written(workspace: Path) -> None:
    (workspace / "file").write_text("in the way")
    fails("train", *SMALL, "-o", "Global.output_dir=file/out", cwd=workspace, code=5, says=("cannot write", "file"))


def test_a_paddleclas_feature_that_is_not_here_is_named(workspace: Path) -> None:
    says = ("this backbone exists in PaddleClas, but not here",)
    fails("train", "-o", "Arch.Backbone.name=HRNet_W18_C", cwd=workspace, code=4, says=says)


def test_the_short_form_of_overrides(workspace: Path) -> None:
    done = shitu("config", "-o", "eval_during_train=False", "-o", "epochs=3", cwd=workspace)
    assert "-o Global.eval_during_train" in done.stdout
    fails("config", "lr", "-o", "Global.nope=1", cwd=workspace, code=4, says=("hint: shitu config shows every key",))


def test_true_and_false_are_values(workspace: Path) -> None:
    fails("train", "--eval-during-train", "maybe", cwd=workspace, code=2, says=("expected true or false",))


def test_weights_that_run_code_are_not_opened(workspace: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {workspace / 'pwned'}",)

    (workspace / "evil.pdparams").write_bytes(pickle.dumps({"w": Evil()}))
    fails("train", "--init-from", "data", cwd=workspace, code=3, says=("data is a folder", "such as output/best_model"))
    fails("train", "--init-from", "evil.pdparams", cwd=workspace, code=3, says=("cannot be read as weights",))
    assert not (workspace / "pwned").exists()


def test_two_prepares_at_once(workspace: Path) -> None:
    from shitu_cli.workspace import Workspace

    with Workspace(workspace).lock("prepare"):
        fails("prepare", "data", cwd=workspace, code=5, says=("another `shitu prepare`", str(os.getpid())))


def test_a_workspace_elsewhere_is_named_in_the_next_command(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=4)
    done = shitu("prepare", "data", "-w", "my work", cwd=tmp_path)
    assert "next: shitu train -w 'my work'" in done.stdout
    assert "next: shitu train -w 'my work'" in shitu("-w", "my work", cwd=tmp_path).stdout
    fails("-w", "nowhere", cwd=tmp_path, code=2, says=("nowhere is not a workspace",))
    fails(
        "-w", "my work/shitu.yaml", cwd=tmp_path, code=2, says=("is a file: a workspace is the folder of a shitu.yaml",)
    )
