"""Images → transforms → samplers → batches."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.config.parts.transforms import Transform
from shitu_cli.config.reader import make_parts
from shitu_cli.config.schema import DatasetConfig
from shitu_cli.data.batch import to_input
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.images import decode_image
from shitu_cli.data.lists import ImageList, write_list
from shitu_cli.data.loader import BatchLoader, SequentialLoader
from shitu_cli.data.samplers import Repeated
from shitu_cli.data.transforms import Normalization, build_transforms
from shitu_cli.errors import ConfigError, DataError
from tests.parts import operation, sampler_of

TRAIN_OPS = (
    operation("RandCropImage", {"size": 24}),
    operation("RandFlipImage", {}),
    operation("NormalizeImage", {"scale": "1.0/255.0"}),
)


def ops(*names: str, **args: object) -> list[Transform]:
    return [operation(name, dict(args)) for name in names]


@pytest.fixture(scope="module")
def dataset(make_images: Callable[..., dict[str, list[Path]]], tmp_path_factory: pytest.TempPathFactory) -> RecDataset:
    root = tmp_path_factory.mktemp("data")
    made = make_images(root, classes=5, per_class=7)
    files = [(path.relative_to(root).as_posix(), label) for label, paths in enumerate(made.values()) for path in paths]
    write_list(root / "list.txt", ImageList.of([p for p, _ in files], [label for _, label in files]))
    return RecDataset(DatasetConfig("ImageNetDataset", str(root), str(root / "list.txt"), TRAIN_OPS))


def test_relabel_numbers_the_labels_that_occur(tmp_path: Path) -> None:
    write_list(tmp_path / "list.txt", ImageList.of(list("abcde"), [30, 7, -1, 7, 12]))
    made = [
        RecDataset(DatasetConfig("ImageNetDataset", "", str(tmp_path / "list.txt"), (), flag)) for flag in (False, True)
    ]
    assert made[0].labels.tolist() == [30, 7, -1, 7, 12] and made[0].class_num == 31
    assert made[1].labels.tolist() == [2, 0, -1, 0, 1] and made[1].class_num == 3


# ----------------------------------------------------------------------------------------------- pictures


def test_decode_is_rgb_and_reads_any_path(tmp_path: Path) -> None:
    picture = np.zeros((8, 6, 3), np.uint8)
    picture[:, :, 2] = 200  # red, in OpenCV's order
    path = tmp_path / "图 片.png"
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    image = decode_image(path)
    assert image.shape == (8, 6, 3) and image[0, 0].tolist() == [200, 0, 0]
    assert decode_image(path, box=(1, 2, 4, 100)).shape == (6, 3, 3)


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bit"])
def test_decode_makes_three_channels(kind: str, tmp_path: Path) -> None:
    shape = {"grey": (5, 5), "alpha": (5, 5, 4), "16 bit": (5, 5, 3)}[kind]
    picture = np.full(shape, 40000 if kind == "16 bit" else 90, np.uint16 if kind == "16 bit" else np.uint8)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    image = decode_image(tmp_path / "a.png")
    assert image.dtype == np.uint8 and image.shape == (5, 5, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"hello", "could not be read"), (None, "No such file")],
)
def test_broken_files_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode_image(path)
    assert caught.value.message.startswith(str(path)) and message in caught.value.message


def jpeg(width: int, height: int, channels: int = 3, **settings: int) -> bytes:
    """A smooth picture of these sides."""
    small = np.random.default_rng(3).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    flags = [value for name, n in settings.items() for value in (getattr(cv2, f"IMWRITE_JPEG_{name}"), n)]
    return cv2.imencode(".jpg", picture if channels == 3 else picture[:, :, 0], flags)[1].tobytes()


def test_jpegs_have_the_pixels_that_opencv_gives() -> None:
    for n, data in enumerate(
        [jpeg(61, 47), jpeg(61, 47, 1), jpeg(40, 30, PROGRESSIVE=1), jpeg(33, 21, SAMPLING_FACTOR=0x411111)]
    ):
        plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decode_image(data), plain[:, :, ::-1], err_msg=str(n))


def test_flawed_jpegs_are_judged_by_opencv() -> None:
    data = jpeg(200, 160)
    with pytest.raises(DataError, match="could not be read as an image"):
        decode_image(data[: len(data) // 2])
    flawed = bytearray(data)
    flawed[len(data) // 2 : len(data) // 2 + 40] = bytes(range(40))
    plain = cv2.imdecode(np.frombuffer(bytes(flawed), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_image(bytes(flawed)), plain[:, :, ::-1])


def test_large_jpegs_are_decoded_at_a_fraction_where_that_is_enough() -> None:
    data = jpeg(640, 480)
    whole = decode_image(data)
    for enough, factor in [(241, 1), (240, 2), (121, 2), (120, 4), (60, 8), (10, 8)]:
        image = decode_image(data, enough=enough)
        assert image.shape == (480 // factor, 640 // factor, 3), enough
        averaged = cv2.resize(whole, image.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(image.astype(int) - averaged).mean() < 2, enough
    # A box decides by its own size, and stays where it is.
    box = (40.0, 80.0, 440.0, 380.0)
    part = decode_image(data, box=box, enough=150)
    assert part.shape == (150, 200, 3)
    averaged = cv2.resize(decode_image(data, box=box), (200, 150), interpolation=cv2.INTER_AREA)
    assert np.abs(part.astype(int) - averaged).mean() < 2
    assert decode_image(data, box=box, enough=151).shape == (300, 400, 3)
    png = cv2.imencode(".png", whole)[1].tobytes()
    assert decode_image(png, enough=10).shape == whole.shape


def test_pictures_stay_in_memory_where_there_is_room(dataset: RecDataset, tmp_path: Path) -> None:
    for n in range(3):
        shutil.copy(dataset.location(n), tmp_path / f"{n}{Path(dataset.location(n)).suffix}")
    names = [path.name for path in sorted(tmp_path.iterdir())]
    write_list(tmp_path / "list.txt", ImageList.of(names, [0] * 3))
    config = DatasetConfig("ImageNetDataset", str(tmp_path), str(tmp_path / "list.txt"), TRAIN_OPS)
    kept = RecDataset(config, keep_bytes=2 * decode_image(tmp_path / names[0]).nbytes)
    before = [kept.load(n, np.random.default_rng(n)) for n in range(3)]
    for n in range(3):
        np.testing.assert_array_equal(before[n], RecDataset(config).load(n, np.random.default_rng(n)))
    for name in names:
        (tmp_path / name).unlink()
    for n in (0, 1):
        np.testing.assert_array_equal(kept.load(n, np.random.default_rng(n)), before[n])
    with pytest.raises(DataError, match="No such file"):
        kept.load(2, np.random.default_rng(2))


# ----------------------------------------------------------------------------------------------- transforms


@pytest.mark.parametrize(
    ("ops", "enough"),
    [
        ([operation("RandCropImage", {"size": [80, 96]})], 144),
        ([operation("RandFlipImage", {}), operation("ResizeImage", {"size": 64})], 96),
        ([operation("ResizeImage", {"resize_short": 100}), operation("CropImage", {"size": 80})], 150),
        ([operation("CropImage", {"size": 80}), operation("ResizeImage", {"size": 64})], None),
        ([operation("Pad", {"padding": 5}), operation("ResizeImage", {"size": 64})], None),
        ([], None),
    ],
)
def test_how_many_pixels_are_enough(ops: list[Transform], enough: int | None) -> None:
    assert build_transforms([operation("DecodeImage", {"reduced": True}), *ops]).enough == enough
    assert build_transforms([operation("DecodeImage", {}), *ops]).enough is None


@pytest.mark.parametrize("name", ["v1_eval", "v2_eval"])
def test_golden_transforms(name: str, golden_dir: Path, shared_dir: Path) -> None:
    golden = json.loads((golden_dir / "transforms.json").read_text())
    expected = golden["transforms"][name]
    transform = build_transforms([operation(key, value or {}) for op in expected["ops"] for key, value in op.items()])
    got = to_input(
        transform(decode_image(shared_dir / golden["image"]), np.random.default_rng(0))[None], transform.normalize
    )[0]
    assert list(got.shape) == expected["shape"]
    assert got.mean() == pytest.approx(expected["mean"], abs=1e-5)
    assert got.std() == pytest.approx(expected["std"], abs=1e-5)
    corner = np.asarray(expected["corner"])
    np.testing.assert_allclose(got[:, : corner.shape[1], : corner.shape[2]], corner, atol=1e-5)


def test_to_input_is_plain_arithmetic() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 5, 4, 3)).astype(np.uint8)
    norm = Normalization((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), 1 / 255)
    expected = ((images / 255 - norm.mean) / norm.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(to_input(images, norm), expected, atol=1e-6)


@pytest.mark.parametrize(
    "op",
    [
        operation("RandCropImage", {"size": [20, 30], "scale": [0.2, 1.0]}),
        operation("RandCropImageV2", {"size": [20, 30]}),
        operation("CropImage", {"size": [20, 30]}),
        operation("ResizeImage", {"size": [20, 30]}),
    ],
)
@pytest.mark.parametrize("shape", [(40, 60, 3), (25, 10, 3), (7, 90, 3)])
def test_sizes_are_width_and_height(op: Transform, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    transform = build_transforms([op])
    for seed in range(20):
        assert transform(image, np.random.default_rng(seed)).shape == (30, 20, 3)


@pytest.mark.parametrize("name", ["RandomRotation", "ColorJitter", "RandAugment", "AugMix", "RandomErasing"])
def test_augmentation_keeps_form_and_repeats(name: str) -> None:
    args = {"ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}}.get(name, {})
    image = np.random.default_rng(3).integers(0, 256, (33, 21, 3)).astype(np.uint8)
    keep = image.copy()
    transform = build_transforms([operation(name, args)])
    changed = 0
    for seed in range(30):
        out = transform(image, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8
        np.testing.assert_array_equal(out, transform(image, np.random.default_rng(seed)))
        changed += int((out != image).any())
    assert changed >= 8
    np.testing.assert_array_equal(image, keep)


def test_erasing_behind_normalisation_leaves_floats() -> None:
    image = np.full((16, 16, 3), 200, np.uint8)
    transform = build_transforms([*ops("NormalizeImage"), operation("RandomErasing", {"EPSILON": 1.0})])
    out = transform(image, np.random.default_rng(0))
    assert transform.normalize is None
    assert out.dtype == np.float32 and out.shape == (3, 16, 16)
    assert (out == 0).any() and not (out == 0).all()


@pytest.mark.parametrize(("mode", "colours"), [("const", 1), ("rand", 1), ("pixel", None)])
def test_what_is_painted_over_erased_parts(mode: str, colours: int | None) -> None:
    """PaddleClas's files write shares as fractions."""
    part = operation("RandomErasing", {"EPSILON": "1.0", "sl": "1.0/4", "sh": "1.0/3.0", "mode": mode}).build()
    image = np.full((32, 32, 3), 100.0, np.float32)
    out = part(image, np.random.default_rng(4))
    erased = out[(out != 100).all(2)]
    assert 0.2 <= len(erased) / 1024 <= 0.36
    assert len(np.unique(erased, axis=0)) == (colours or len(erased))


def test_all_wrong_operations_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_parts("transform", [{"RandCropImage": {}}, {"Nope": {}}, {"CropImage": {"sice": 3, "size": 3}}], "ops")
    assert len([caught.value.message, *caught.value.details]) == 3


# ----------------------------------------------------------------------------------------------- samplers


LABELS = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("drop_last", [True, False])
def test_plain_sampler_over_processes(world: int, drop_last: bool) -> None:
    args = {"batch_size": 4, "shuffle": True, "drop_last": drop_last}
    samplers = [sampler_of(LABELS, seed=1, rank=rank, world=world, **args) for rank in range(world)]
    parts = [list(sampler) for sampler in samplers]
    assert len({len(part) for part in parts}) == 1 == len({len(sampler) for sampler in samplers})
    seen = [index for part in parts for batch in part for index in batch]
    assert len(seen) == len(set(seen))
    if not drop_last:
        assert len(LABELS) - len(seen) < world
    assert all(batch for part in parts for batch in part)
    wide = list(sampler_of(LABELS, seed=1, batch_size=4 * world, shuffle=True))
    for step in range(len(parts[0])):
        assert sorted(i for part in parts for i in part[step]) == sorted(wide[step])


def test_epochs_differ_and_repeat() -> None:
    sampler = sampler_of(LABELS, seed=5, batch_size=8, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


@pytest.mark.parametrize("method", ["sample_avg_prob", "id_avg_prob"])
def test_pk_batches(method: str) -> None:
    sampler = sampler_of(LABELS, "PKSampler", batch_size=12, sample_per_id=3, sample_method=method)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 55 // 12
    for batch in batches:
        labels, counts = np.unique(LABELS[batch], return_counts=True)
        assert len(labels) == 4 and set(counts) == {3}
        for label in labels[labels >= 2]:  # classes of three or more pictures repeat none
            own = [i for i in batch if LABELS[i] == label]
            assert len(set(own)) == 3


@pytest.mark.parametrize("drop_last", [True, False])
def test_pk_epochs_are_rounded_as_drop_last_says(drop_last: bool) -> None:
    sampler = sampler_of(LABELS, "PKSampler", batch_size=12, sample_per_id=3, drop_last=drop_last)
    assert len(list(sampler)) == len(sampler) == (4 if drop_last else 5)  # of 55 images


@pytest.mark.parametrize("world", [1, 2])
def test_random_identities_are_nearly_a_pass(world: int) -> None:
    labels = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 13, 40))
    args = {"batch_size": 8, "num_instances": 2, "drop_last": False}
    samplers = [
        sampler_of(labels, "DistributedRandomIdentitySampler", rank=rank, world=world, **args) for rank in range(world)
    ]
    parts = [list(sampler) for sampler in samplers]
    groups = sum(max(1, n // 2) for n in np.bincount(labels))
    own = math.ceil(groups * 2 / world)
    assert {len(part) for part in parts} == {len(samplers[0])} == {math.ceil(own / 8)}
    for batches in zip(*parts, strict=True):
        names, counts = np.unique(labels[[*itertools.chain(*batches)]], return_counts=True)
        assert set(counts) == {2} and len(names) == 4 * world  # all of a step are of different classes
    seen = {index for part in parts for batch in part for index in batch}
    pk = sampler_of(labels, "PKSampler", batch_size=8 * world, sample_per_id=2)
    assert len(seen) / len(labels) > 0.85 > len({index for batch in pk for index in batch}) / len(labels)
    again = sampler_of(labels, "DistributedRandomIdentitySampler", world=world, **args)
    assert list(again) == parts[0]
    again.set_epoch(1)
    assert list(again) != parts[0]


def test_random_identities_go_on_for_as_many_batches_as_asked() -> None:
    args = {"batch_size": 12, "num_instances": 3, "max_iters": 30}
    sampler = sampler_of(LABELS, "DistributedRandomIdentitySampler", **args)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 30
    assert all(len(np.unique(LABELS[batch])) == 4 for batch in batches)
    with pytest.raises(DataError, match="needs 16 classes, the list has 10"):
        sampler_of(LABELS, "DistributedRandomIdentitySampler", batch_size=64, num_instances=4)


def test_an_epoch_may_have_more_batches_than_a_pass() -> None:
    """Global.iter_per_epoch counts batches whatever the list makes, as in PaddleClas; each epoch begins a new pass."""
    sampler = sampler_of(LABELS, batch_size=20, shuffle=True)  # 55 images: three batches
    passes = []
    for number in range(6):
        sampler.set_epoch(number)
        passes.append(list(sampler))
    epochs = Repeated(sampler, 7)
    for epoch, (first, second, third) in enumerate((passes[:3], passes[3:])):
        epochs.set_epoch(epoch)
        assert list(epochs) == [*first, *second, third[0]] and len(epochs) == 7
    short = Repeated(sampler, 2)
    short.set_epoch(4)
    assert list(short) == passes[4][:2]


def test_pk_that_cannot_be_fed_names_numbers_that_can() -> None:
    with pytest.raises(DataError) as caught:
        sampler_of(LABELS, "PKSampler", batch_size=64, sample_per_id=4)
    assert "needs 16 classes, the list has 10" in caught.value.message
    assert caught.value.hint is not None and "--batch-size 40" in caught.value.hint
    sampler_of(LABELS, "PKSampler", batch_size=40, sample_per_id=4)
    with pytest.raises(ConfigError, match="not a multiple"):
        sampler_of(LABELS, "PKSampler", batch_size=10, sample_per_id=4)


def test_pk_methods_draw_as_their_names_say() -> None:
    """Each class alike with id_avg_prob, by its pictures with sample_avg_prob; ratio multiplies ranges of classes."""

    def drawn(**args: object) -> np.ndarray:
        sampler = sampler_of(LABELS, "PKSampler", batch_size=2, sample_per_id=1, **args)
        times = np.zeros(10)
        for epoch in range(200):
            sampler.set_epoch(epoch)
            for batch in sampler:
                times += np.bincount(LABELS[batch], minlength=10)
        return times / times.sum()

    counts = np.bincount(LABELS)
    assert np.abs(drawn(sample_method="id_avg_prob") - 0.1).max() < 0.01
    by_pictures = drawn(sample_method="sample_avg_prob")
    assert by_pictures[counts.argmax()] > 4 * by_pictures[counts.argmin()]
    favoured = drawn(sample_method="id_avg_prob", id_list=[0, 1, 4, 4], ratio=[4, 2])
    assert favoured[:2].min() > 2.5 * favoured[5:].max() and favoured[4] > 1.4 * favoured[5:].max()
    with pytest.raises(ConfigError, match="expected two for each of the 2 of ratio"):
        drawn(id_list=[1, 2], ratio=[1, 2])


def test_pk_ratios_that_exclude_too_much_are_refused() -> None:
    def make(ratio: list[float], **args: object) -> None:
        sampler_of(
            LABELS, "PKSampler", **{"batch_size": 12, "sample_per_id": 3, "id_list": [0, 7], "ratio": ratio, **args}
        )

    make([0.5])
    with pytest.raises(DataError, match=r"needs 4 classes, the list has 2 that sampler\.ratio does not exclude"):
        make([0.0])
    with pytest.raises(ConfigError, match="excludes every class of the list"):
        make([0.0], id_list=[0, 9])


def test_class_balanced_evens_out() -> None:
    sampler = sampler_of(LABELS, "ClassBalancedSampler", batch_size=55)
    drawn = np.zeros(10)
    for epoch in range(60):
        sampler.set_epoch(epoch)
        for batch in sampler:
            drawn += np.bincount(LABELS[batch], minlength=10)
    assert drawn.max() / drawn.min() < 1.5


# ----------------------------------------------------------------------------------------------- loader


def test_batches_do_not_depend_on_the_workers(dataset: RecDataset) -> None:
    def run(workers: int, start: int = 0) -> list[tuple[bytes, list[int]]]:
        sampler = sampler_of(dataset.labels, seed=3, batch_size=6, shuffle=True)
        loader = BatchLoader(dataset, sampler, seed=3, num_workers=workers)
        return [(batch.images.tobytes(), batch.indices.tolist()) for batch in loader.epoch(2, start)]

    alone = run(0)
    assert alone == run(1) == run(4)
    assert run(2, start=3) == alone[3:]
    assert len({images for images, _ in alone}) == len(alone)


def test_repeated_pictures_of_a_batch_differ(dataset: RecDataset) -> None:
    sampler = sampler_of(dataset.labels, "PKSampler", batch_size=18, sample_per_id=9)
    loader = BatchLoader(dataset, sampler, seed=0, num_workers=2)
    batch = next(iter(loader.epoch(0)))
    looks = {(int(i), image.tobytes()) for i, image in zip(batch.indices, batch.images, strict=True)}
    assert len(set(batch.indices.tolist())) < len(looks) == 18


def test_images_that_come_again_in_an_epoch_look_different(dataset: RecDataset) -> None:
    batches = Repeated(sampler_of(dataset.labels, batch_size=7), 15)  # three passes over 35 images
    looks: dict[int, set[bytes]] = {}
    for batch in BatchLoader(dataset, batches, seed=0, num_workers=0).epoch(0):
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
            looks.setdefault(index, set()).add(image.tobytes())
    assert len(looks) == 35 and sum(len(images) for images in looks.values()) > 100


def test_a_broken_picture_ends_or_is_skipped(dataset: RecDataset, tmp_path: Path) -> None:
    good = [dataset.location(i) for i in range(5)]
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    names = [*(str(p) for p in good), "broken.jpg"]
    write_list(tmp_path / "l.txt", ImageList.of(names, [0] * 6))
    broken = RecDataset(DatasetConfig("ImageNetDataset", str(tmp_path), str(tmp_path / "l.txt"), TRAIN_OPS))
    for workers in (0, 2):
        with pytest.raises(DataError, match=r"broken\.jpg: could not be read.*l.txt:6"):
            list(SequentialLoader(broken, 4, num_workers=workers))
    loader = SequentialLoader(broken, 4, num_workers=2, on_error="skip")
    assert [batch.indices.tolist() for batch in loader] == [[0, 1, 2, 3], [4]]
    assert list(loader.skipped) == [5]


def test_pictures_of_different_sizes_are_explained(dataset: RecDataset, tmp_path: Path) -> None:
    (tmp_path / "s.png").write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    write_list(tmp_path / "l.txt", ImageList.of(["s.png", dataset.location(0)], [0, 0]))
    raw = RecDataset(DatasetConfig("ImageNetDataset", str(tmp_path), str(tmp_path / "l.txt"), ()))
    with pytest.raises(DataError, match="different sizes"):
        list(SequentialLoader(raw, 2))


def test_an_abandoned_epoch_stops_its_threads(dataset: RecDataset) -> None:
    import threading

    loader = BatchLoader(dataset, sampler_of(dataset.labels, batch_size=4), seed=0, num_workers=2)
    batches = loader.epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("shitu-loader"):
            thread.join(timeout=10)
            assert not thread.is_alive()
