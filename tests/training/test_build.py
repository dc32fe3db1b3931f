"""What is checked before the first step of a run."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.config.load import load_config
from tests.command import SMALL, shitu


def test_images_without_a_class_are_named_by_their_lines(workspace: Path) -> None:
    listed = workspace / "lists/train_list.txt"
    lines = listed.read_text().splitlines()
    for place in (2, 5):
        lines[place] = lines[place].rpartition("\t")[0] + "\t-1"
    listed.write_text("\n\n".join(lines) + "\n")
    done = shitu("train", *SMALL, "--epochs", "1", cwd=workspace, check=False)
    assert done.returncode == 3
    assert "2 images in the training list with a label below 0" in done.stderr
    assert "train_list.txt:5: label -1" in done.stderr and "train_list.txt:11: label -1" in done.stderr


def test_an_image_that_cannot_be_read_is_named_by_its_line(workspace: Path) -> None:
    listed = workspace / "lists/train_list.txt"
    listed.write_text("\n" + listed.read_text())
    name = listed.read_text().splitlines()[3].split("\t")[0]
    (workspace / "data" / name).write_bytes(b"no image")
    done = shitu("train", *SMALL, "--epochs", "1", "--num-workers", "0", cwd=workspace, check=False)
    assert done.returncode == 3
    assert "train_list.txt:4)" in done.stderr and name in done.stderr


def test_all_that_keeps_training_from_beginning_is_said_at_once(workspace: Path) -> None:
    (workspace / "lists/gallery_list.txt").unlink()
    options = ["Arch.Head.class_num=77", "DataLoader.Train.sampler.name=PKSampler", "Arch.Backbone.pretrained=no/where"]
    given = [word for option in options for word in ("-o", option)]
    more = ["-o", "DataLoader.Train.sampler.sample_per_id=5", "--batch-size", "12", "--eval-during-train", "true"]
    done = shitu("train", *given, *more, cwd=workspace, check=False)
    assert done.returncode == 4
    for text in (
        "Arch.Head.class_num: got 77, expected",
        "batch_size 12 is not a multiple of sample_per_id 5",
        "gallery_list.txt, which evaluation during training needs",
        "no weights file",
        "--batch-size 10",
        "--eval-during-train false",
    ):
        assert text in " ".join(done.stderr.split()), text
    assert not (workspace / "output/latest.pdparams").exists()


def test_an_evaluation_without_any_answer_is_said_before_the_first_epoch(workspace: Path) -> None:
    listed = workspace / "lists/query_list.txt"
    lines = [f"{line.rpartition(chr(9))[0]}\t900" for line in listed.read_text().splitlines()]
    listed.write_text("\n".join(lines) + "\n")
    done = shitu("train", "--epochs", "1", "--eval-during-train", "true", cwd=workspace, check=False)
    text = " ".join(done.stderr.split())
    assert done.returncode == 3 and "queries has an image of its label in the gallery" in text
    assert "--eval-during-train false" in text and not (workspace / "output/latest.pdparams").exists()


def test_problems_of_the_config_and_of_its_data_are_said_together(workspace: Path) -> None:
    config = workspace / "shitu.yaml"
    config.write_text(config.read_text() + "Slim: {quant: {name: pact}}\nAMP: {levl: O1}\n")
    options = ["Arch.Head.class_num=5", "DataLoader.Train.sampler.name=PKSampler", "Arch.Backbone.pretrained=no/where"]
    given = [word for option in options for word in ("-o", option)]
    more = ["-o", "DataLoader.Train.sampler.sample_per_id=5", "--batch-size", "12"]
    done = shitu("train", *given, *more, cwd=workspace, check=False)
    shown = " ".join(done.stderr.split())
    assert done.returncode == 4 and "error: training cannot begin" in shown
    for text in (
        "2 problems in the config",
        "Slim: exists in PaddleClas, but not here",
        "AMP.levl: unknown key (did you mean level?)",
        "Arch.Head.class_num: got 5, expected 6",
        "batch_size 12 is not a multiple of sample_per_id 5",
        "no weights file",
    ):
        assert text in shown, text
    assert "shitu train -o Slim=null -o Arch.Head.class_num=6 --batch-size 10" in shown


def test_of_what_frozen_replaces_no_problems_are_said(workspace: Path) -> None:
    options = ["Global.epoch=3", "Arch.Head.class_num=5", "DataLoader.Train.sampler.name=PKSampler"]
    given = [word for option in options for word in ("-o", option)]
    more = ["-o", "DataLoader.Train.sampler.sample_per_id=5", "--batch-size", "12", "--eval-during-train", "false"]
    done = shitu("train", "--frozen", *given, *more, cwd=workspace, check=False)
    assert done.returncode == 4 and "Global.epoch: unknown key" in done.stderr
    assert "class_num" not in done.stderr and "batch_size" not in done.stderr and "logits" not in done.stderr


def test_a_block_with_problems_is_not_compared_with_the_data(workspace: Path) -> None:
    """What stands in for it would be wrong for other reasons than the user's."""
    (workspace / "lists/gallery_list.txt").unlink()
    options = ["-o", "Global.epoch=3", "-o", "Arch.Neck.name=Nick", "--eval-during-train", "true"]
    done = shitu("train", *options, cwd=workspace, check=False)
    assert "2 problems in the config" in done.stderr and "training cannot begin" not in done.stderr
    (workspace / "lists/train_list.txt").unlink()
    done = shitu("train", *options, cwd=workspace, check=False)
    assert "2 problems in the config" in done.stderr and "no training list at" in done.stderr


def test_a_loss_on_logits_without_a_head_is_said_before_the_first_step(workspace: Path) -> None:
    options = ["-o", "Arch.Head=null", "-o", "Arch.Backbone.pretrained=no/where"]
    done = shitu("train", *options, cwd=workspace, check=False)
    shown = " ".join(done.stderr.split())
    assert done.returncode == 4 and "Loss.Train.0.CELoss: needs Arch.Head" in shown and "no weights file" in shown


def test_folders_that_cannot_be_read_are_said_with_the_rest(workspace: Path) -> None:
    options = ["DataLoader.Train.dataset.name=Market1501", "Arch.Backbone.pretrained=no/where"]
    done = shitu("train", *(word for option in options for word in ("-o", option)), cwd=workspace, check=False)
    shown = " ".join(done.stderr.split())
    assert "no folder" in shown and "no weights file" in shown and "no training list" not in shown


def test_batches_of_one_image_are_warned_of_where_they_teach_nothing(workspace: Path) -> None:
    from shitu_cli.errors import ErrorCollector
    from shitu_cli.training.checks import check_run

    for size, count in ((1, 1), (2, 0)):
        config = load_config(workspace / "shitu.yaml", [f"DataLoader.Train.sampler.batch_size={size}"])
        data = check_run(config, ErrorCollector())
        assert data is not None
        remarks = [text for text in data.remarks if "the batch norm of BNNeck makes every feature the same" in text]
        assert len(remarks) == count


def test_labels_without_images_in_a_list_of_ones_own_are_told(workspace: Path) -> None:
    from shitu_cli.errors import ErrorCollector
    from shitu_cli.training.checks import check_run

    lines = [line.split("\t") for line in (workspace / "lists/train_list.txt").read_text().splitlines()]
    (workspace / "own.txt").write_text("".join(f"{path} {int(label) + 1}\n" for path, label in lines))
    options = ["DataLoader.Train.dataset.cls_label_path=own.txt", "Arch.Head.class_num=7"]
    for relabel, says in ((False, ["1 of the labels 0 to 6 of own.txt have no images, such as 0"]), (True, [])):
        chosen = [*options, f"DataLoader.Train.dataset.relabel={relabel}"]
        data = check_run(load_config(workspace / "shitu.yaml", chosen), ErrorCollector())
        assert data is not None
        assert [text.partition(":")[0] for text in data.remarks if "of the labels" in text] == says


def test_a_head_with_more_classes_than_the_list_is_told_for_a_config_of_paddleclas(workspace: Path) -> None:
    from shitu_cli.errors import ErrorCollector
    from shitu_cli.training.checks import check_run

    for count, says in ((7, "1 class has no images"), (9, "3 classes have no images")):
        options = ["Global.to_static=False", f"Arch.Head.class_num={count}"]  # a key that only PaddleClas has
        data = check_run(load_config(workspace / "shitu.yaml", options), ErrorCollector())
        assert data is not None and data.remarks == [
            f"Arch.Head.class_num is {count}, but train_list.txt has 6 classes (labels 0 to 5): {says} "
            "(-o Arch.Head.class_num=6 leaves them out)"
        ]
