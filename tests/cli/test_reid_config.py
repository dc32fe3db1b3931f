"""A person re-identification config as PaddleClas has them: reader class, two optimisers, identity sampler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest

from shitu_cli.config.dump import dump_config
from shitu_cli.config.load import load_config
from shitu_cli.data.lists import read_list
from shitu_cli.data.reader_classes import as_lists
from shitu_cli.errors import ConfigError, DataError
from shitu_cli.processes.collectives import Ranks
from shitu_cli.training.optimizer import OptimizerStep, build_optimizers
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import shitu

RATE = 50.0


def split(folder: str, sampler: str, *, name: str = "Market1501") -> str:
    return f"""
    dataset:
      name: {name}
      image_root: ./dataset/
      cls_label_path: {folder}
      backend: pil
      transform_ops:
        - ResizeImage: {{size: [32, 64], return_numpy: False, interpolation: bilinear, backend: pil}}
        - ToTensor:
        - Normalize: {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
    sampler: {sampler}
    loader: {{num_workers: 1, use_shared_memory: True}}
"""


def text(**changes: str) -> str:
    blocks = {
        "adam": "{scope: RecModel, lr: {name: Piecewise, decay_epochs: [1, 2], values: [0.001, 0.0001, 0.00001], "
        "warmup_epoch: 1, warmup_start_lr: 0.0001, by_epoch: True, last_epoch: 0}, "
        "regularizer: {name: L2, coeff: 0.0005}}",
        "sgd": f"{{scope: CenterLoss, lr: {{name: Constant, learning_rate: {RATE}}}}}",
        "neck_init": "{name: Constant, value: 1.0}",
        "head_init": "{name: KaimingUniform, negative_slope: 2.23606}",
        **changes,
    }
    identity = (
        "{name: DistributedRandomIdentitySampler, batch_size: 8, num_instances: 2, drop_last: False, shuffle: True}"
    )
    plain = "{name: DistributedBatchSampler, batch_size: 8, drop_last: False, shuffle: False}"
    return f"""
Global: {{output_dir: ./output, device: cpu, epochs: 2, eval_during_train: True, eval_interval: 2, seed: 3,
  image_shape: [3, 64, 32]}}
Arch:
  name: RecModel
  infer_output_key: features
  infer_add_softmax: False
  Backbone: {{name: PPLCNet_x0_25, pretrained: False}}
  BackboneStopLayer: {{name: flatten}}
  Neck:
    name: BNNeck
    num_features: &feat_dim 1280
    weight_attr: {{initializer: {blocks["neck_init"]}}}
    bias_attr: {{initializer: {{name: Constant, value: 0.0}}, learning_rate: 1.0e-20}}
  Head:
    name: FC
    embedding_size: *feat_dim
    class_num: &class_num 4
    weight_attr: {{initializer: {blocks["head_init"]}}}
    bias_attr: False
Loss:
  Train:
    - CELoss: {{weight: 1.0, epsilon: 0.1}}
    - TripletLossV2: {{weight: 1.0, margin: 0.3, normalize_feature: False, feature_from: backbone}}
    - CenterLoss: {{weight: 0.0005, num_classes: *class_num, feat_dim: *feat_dim, feature_from: backbone}}
Optimizer:
  - Adam: {blocks["adam"]}
  - SGD: {blocks["sgd"]}
DataLoader:
  Train: {split("bounding_box_train", identity)}
  Eval:
    Query: {split("query", plain).replace(chr(10), chr(10) + "  ")}
    Gallery: {split("bounding_box_test", plain).replace(chr(10), chr(10) + "  ")}
Metric:
  Eval:
    - Recallk: {{topk: [1, 5]}}
    - mAP: {{}}
"""


@pytest.fixture
def market(tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> Path:
    """4 persons to train, 3 others to search for among 3 and the junk of -1; cameras 1 to 4."""
    pictures = make_images(tmp_path / "drawn", classes=8, per_class=6)
    root = tmp_path / "dataset/market1501/Market-1501-v15.09.15"
    for person, paths in enumerate(pictures.values()):
        for number, path in enumerate(paths):
            folder = "bounding_box_train" if person < 4 else "query" if number == 0 else "bounding_box_test"
            label = f"{person * 7:04d}" if person < 7 else "-1"
            if folder == "query" and label == "-1":
                continue
            target = root / folder / f"{label}_c{number % 4 + 1}s1_{number:06d}_00.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    (tmp_path / "market.yaml").write_text(text())
    return tmp_path


def test_lists_of_the_folders(market: Path) -> None:
    config = as_lists(load_config(market / "market.yaml"), market / "lists")
    loaders = config.DataLoader
    assert loaders.train is not None and loaders.query is not None and loaders.gallery is not None
    train, query, gallery = (
        read_list(market / part.dataset.cls_label_path) for part in (loaders.train, loaders.query, loaders.gallery)
    )
    assert (len(train), sorted(set(train.labels))) == (24, [0, 1, 2, 3])  # persons 0, 7, 14, 21, made dense
    assert query.labels.tolist() == [28, 35, 42] and query.ids is not None and query.ids.tolist() == [0, 0, 0]
    assert len(gallery) == 15 and sorted(set(gallery.labels)) == [28, 35, 42]  # without junk
    assert gallery.ids is not None and gallery.ids.tolist() == [0, 1, 1, 2, 3] * 3
    assert all(Path(gallery.location(n, market / "dataset")).is_file() for n in range(len(gallery)))


@pytest.mark.slow
def test_train_resume_evaluate(market: Path) -> None:
    shitu("train", "-c", "market.yaml", cwd=market)
    weights = read_paddle(market / "output/latest.pdparams")
    shitu("train", "-c", "market.yaml", "--epochs", "1", "-o", "Global.output_dir=./half", cwd=market)
    shitu("train", "-c", "market.yaml", "--resume", "-o", "Global.output_dir=./half", cwd=market)
    resumed = read_paddle(market / "half/latest.pdparams")
    assert all(np.array_equal(weights[name], resumed[name]) for name in weights)
    values = json.loads(shitu("evaluate", "-c", "market.yaml", "--json", cwd=market).stdout)
    assert (values["queries"], values["gallery"]) == (3, 15)


def test_each_optimizer_trains_its_own_and_comes_back(tmp_path: Path) -> None:
    """Adam's first step is its rate against the gradient's sign, SGD's the gradient times its own rate."""
    (tmp_path / "two.yaml").write_text(text())
    config = load_config(tmp_path / "two.yaml")

    def built() -> tuple[OptimizerStep, list[paddle.Tensor]]:
        with paddle.utils.unique_name.guard():
            made = [paddle.create_parameter([3], "float32") for _ in range(12)]  # names up to .._11 begin with .._1
        for parameter in made:
            parameter.set_value(np.zeros(3, np.float32))
        names = [f"backbone.{n}" for n in range(11)] + ["loss.parts.2.centers"]
        parameters = list(zip(names, made, strict=True))
        return build_optimizers(config, parameters, steps_per_epoch=10, ranks=Ranks()), made

    optimizer, parameters = built()
    gradient = np.array([2.0, -3.0, 0.5], np.float32)
    for parameter in parameters:
        parameter.grad = paddle.to_tensor(gradient)
    optimizer.step(0)  # the warm-up is over, as `last_epoch: 0` begins one epoch ahead
    for parameter in parameters[:-1]:
        assert np.allclose(parameter.numpy(), -0.001 * np.sign(gradient), rtol=1e-4)
    assert np.allclose(parameters[-1].numpy(), -RATE * gradient)
    again, fresh = built()
    state = {name: value.numpy() * 1 for name, value in optimizer.tensors().items()}
    state |= {name: value + n for n, (name, value) in enumerate(sorted(state.items())) if "moment" in name}
    for parameter in fresh:  # accumulators are made by a step
        parameter.grad = paddle.to_tensor(gradient)
    again.step(0)
    again.load_state_dict(state, {})
    loaded = again.tensors()
    assert set(loaded) == set(state) and len(state) > 22
    assert all(np.array_equal(loaded[name].numpy(), state[name]) for name in state)


def test_the_snapshot_reads_back(market: Path) -> None:
    config = load_config(market / "market.yaml")
    assert [part.scope for part in (config.Optimizer, *config.loss_optimizers)] == [None, "CenterLoss"]
    (market / "again.yaml").write_text(dump_config(config))
    again = load_config(market / "again.yaml")
    assert (again.Optimizer, again.loss_optimizers) == (config.Optimizer, config.loss_optimizers)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"sgd": "{scope: CentreLoss, lr: {name: Constant, learning_rate: 1.0}}"},
            "expected one of CELoss, CenterLoss",
        ),
        ({"sgd": "{scope: RecModel, lr: {name: Constant, learning_rate: 1.0}}"}, "two optimisers have the same scope"),
        ({"adam": "{scope: CELoss, lr: {name: Constant, learning_rate: 1.0}}"}, "no optimiser has the scope"),
        (
            {"adam": "{scope: RecModel, lr: {name: Piecewise, decay_epochs: [1], values: [1, 0, 0]}}"},
            "Optimizer.0.Adam.lr.values: got 3, expected one more than the 1 decay_epochs",
        ),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text(**changes))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = [problem for problem in caught.value.details if told in problem]
    assert problem.startswith(f"{path}:")


def test_an_optimizer_of_nothing(market: Path) -> None:
    wrong = text(sgd="{scope: TripletLossV2, lr: {name: Constant, learning_rate: 1.0}}")
    (market / "wrong.yaml").write_text(wrong)
    done = shitu("train", "-c", "wrong.yaml", cwd=market, check=False)
    assert done.returncode == 4 and "TripletLossV2 has no parameters to train" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("moment1_0", np.zeros(1), "[1], expected [3]"),
        ("moment1_0", np.zeros((3, 1)), "[3, 1], expected [3]"),
        ("moment1_0", np.zeros(3, int), "[3] of int64, expected [3]"),
        ("moment1_0", "x", "str, expected [3]"),
        ("beta1_pow_acc_0", np.zeros(2), "[2], expected [3]"),
        ("beta1_pow_acc_0", np.zeros(1), None),
    ],
)
def test_the_state_of_another_optimizer_is_refused(tmp_path: Path, name: str, value: object, says: str | None) -> None:
    (tmp_path / "two.yaml").write_text(text())
    with paddle.utils.unique_name.guard():
        parameters = [(n, paddle.create_parameter([3], "float32")) for n in ("backbone.0", "loss.parts.2.centers")]
    optimizer = build_optimizers(load_config(tmp_path / "two.yaml"), parameters, steps_per_epoch=10, ranks=Ranks())
    state = {f"{parameters[0][1].name}_{name}": value}
    if says is None:
        optimizer.load_state_dict(state, {})
        return
    with pytest.raises(DataError) as caught:
        optimizer.load_state_dict(state, {})
    assert caught.value.details[0].endswith(says)


def test_a_network_of_which_other_scopes_train_all(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(text())
    with paddle.utils.unique_name.guard():
        centers = [("loss.parts.2.centers", paddle.create_parameter([3], "float32"))]
    with pytest.raises(ConfigError, match="the scope RecModel has no parameters to train"):
        build_optimizers(load_config(tmp_path / "two.yaml"), centers, steps_per_epoch=10, ranks=Ranks())


def test_logos_and_their_mistakes(tmp_path: Path) -> None:
    (tmp_path / "logo.yaml").write_text(text().replace("name: Market1501", "name: LogoDataset"))
    lists = tmp_path / "bounding_box_train", tmp_path / "query", tmp_path / "bounding_box_test"
    for path in lists:
        path.write_text("image_id\tclass_id\tname\tpath\n1\t1\ta b\timg/1.jpg\n2\t3\tc\timg/2.jpg\n")
    config = as_lists(load_config(tmp_path / "logo.yaml"), tmp_path / "made")
    assert config.DataLoader.train is not None
    made = read_list(tmp_path / config.DataLoader.train.dataset.cls_label_path)
    assert made.paths() == ["img/1.jpg", "img/2.jpg"] and made.labels.tolist() == [0, 2]
    lists[0].write_text("image_id\tclass_id\tname\tpath\n1\t0\ta\timg/1.jpg\n2 3 c img/2.jpg\n")
    with pytest.raises(DataError) as caught:
        as_lists(load_config(tmp_path / "logo.yaml"), tmp_path / "made", required=("train",))
    assert [detail.split(": ")[0] for detail in caught.value.details] == [f"{lists[0]}:2", f"{lists[0]}:3"]


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "market.yaml").write_text(text())
    done = shitu("train", "-c", "market.yaml", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "market1501/Market-1501-v15.09.15/bounding_box_train" in done.stderr


@pytest.mark.slow
def test_what_follows_reads_the_same_lists(market: Path) -> None:
    """The cache may go, another config may be evaluated meanwhile, the workspace may be moved."""
    (market / "market.yaml").rename(market / "shitu.yaml")
    shitu("train", "--epochs", "1", cwd=market)
    assert (
        load_config(market / "output/config.yaml", root=market).DataLoader
        == load_config(market / "shitu.yaml").DataLoader
    )
    shutil.rmtree(market / ".shitu/cache")
    moved = market.with_name(f"{market.name}-moved")
    market.rename(moved)
    done = shitu("train", "--resume", "--epochs", "2", cwd=moved)
    assert "continuing at epoch 2" in done.stdout and "cls_label_path" not in done.stderr
    shitu("evaluate", "-o", "DataLoader.Eval.Query.loader.num_workers=2", cwd=moved)
    assert (moved / "reports/evaluate.json").is_file() and not (moved / "reports/evaluate-with-options.json").exists()
    shitu("export", "--format", "pdmodel", cwd=moved)
    built = json.loads(shitu("index", "build", "--json", cwd=moved).stdout)
    assert built["count"] == 15
    # A machine that only evaluates.
    shutil.rmtree(moved / "dataset/market1501/Market-1501-v15.09.15/bounding_box_train")
    assert json.loads(shitu("evaluate", "--json", cwd=moved).stdout)["gallery"] == 15


def test_another_optimizer_for_a_loss_is_no_resume(market: Path) -> None:
    run = ["train", "-o", "Global.eval_during_train=False", "--epochs"]
    (market / "market.yaml").rename(market / "shitu.yaml")
    shitu(*run, "1", cwd=market)
    snapshot = market / "output/config.yaml"
    snapshot.write_text(snapshot.read_text().replace("- SGD:", "- Momentum:"))
    done = shitu(*run, "2", "--resume", cwd=market, check=False)
    assert done.returncode == 2 and "Optimizer.1.SGD.scope: 'CenterLoss' then, None now" in done.stderr
