"""The training loader beside bare decoding and resizing and Paddle's own loader, in images/s; and its stores.

    python benchmarks/loader.py [--pictures 1500] [--side 348] [--size 224] [--stores]

JPEGs of `--side` pixels made on the spot; random crop, flip and normalisation to float32 batches of 64 at `--size`.
Bare decoding and resizing is what OpenCV takes for whole pictures on all cores. `reduced` decodes at a fraction.
`--stores` reads them from files, tar, zip, Parquet and a server of the S3 protocol in this process (moto: most
of its time is the server's) instead, shuffled; S3 in the first epoch and in a later one. What counts there is processor
time, in all threads, so that other work beside changes little. Runs are interleaved, the best counts.
"""

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--side", type=int, default=348)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--stores", action="store_true")
    options = parser.parse_args()
    if options.stores:
        compare_stores(options.pictures, options.side, options.size)
        return
    from shitu_cli.config.parts.augmentations import RandCropImage, RandFlipImage
    from shitu_cli.config.parts.samplers import DistributedBatchSampler
    from shitu_cli.config.parts.transforms import DecodeImage, NormalizeImage
    from shitu_cli.config.schema import DatasetConfig
    from shitu_cli.data.batch import to_input
    from shitu_cli.data.dataset import RecDataset
    from shitu_cli.data.loader import BatchLoader
    from shitu_cli.data.samplers import Feed, build_sampler
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")  # as in training: freed memory is used again
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for n in range(options.pictures):
            rng = np.random.default_rng(n)
            small = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            image = cv2.resize(small, (options.side, options.side), interpolation=cv2.INTER_CUBIC)
            (root / f"{n}.jpg").write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())
        (root / "list.txt").write_text("".join(f"{n}.jpg\t{n % 10}\n" for n in range(options.pictures)))

        def dataset_of(reduced: bool) -> RecDataset:
            ops = (DecodeImage(reduced=reduced), RandCropImage(options.size), RandFlipImage(), NormalizeImage())
            return RecDataset(DatasetConfig("ImageNetDataset", folder, str(root / "list.txt"), ops))

        dataset = dataset_of(False)
        sampler = build_sampler(DistributedBatchSampler(batch_size=64, shuffle=True), Feed(dataset.labels))

        def bare() -> None:
            def decode(n: int) -> int:
                image = cv2.imdecode(np.frombuffer((root / f"{n}.jpg").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
                return cv2.resize(image, (options.size, options.size)).shape[0]

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(decode, range(options.pictures)))

        def ours(reduced: bool) -> None:
            pictures = dataset_of(reduced)
            for batch in BatchLoader(pictures, sampler, seed=0).epoch(0):
                to_input(batch.images, pictures.normalization)

        def paddles(workers: int) -> None:
            import paddle

            class Pictures(paddle.io.Dataset):
                def __len__(self) -> int:
                    return len(dataset)

                def __getitem__(self, n: int) -> tuple:
                    image = dataset.load(n, np.random.default_rng(n)).astype(np.float32)
                    mean, std = np.float32([123.7, 116.3, 103.5]), np.float32([58.4, 57.1, 57.4])
                    return ((image - mean) / std).transpose(2, 0, 1), int(dataset.labels[n])

            for _ in paddle.io.DataLoader(Pictures(), batch_size=64, shuffle=True, num_workers=workers):
                pass

        print(f"{options.pictures:,} JPEGs of {options.side} px to {options.size} px, {os.cpu_count()} cores")
        runs = {
            "bare decoding, resizing": bare,
            "shitu": lambda: ours(False),
            "shitu, reduced": lambda: ours(True),
            "paddle.io, 0 workers": lambda: paddles(0),
            "paddle.io, 2 workers": lambda: paddles(2),
        }
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(3):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
        for name, seconds in best.items():
            ratio = best["bare decoding, resizing"] / seconds
            print(f"{name:24} {options.pictures / seconds:8.0f} images/s  {ratio:.2f} x bare", flush=True)


def compare_stores(count: int, side: int, size: int) -> None:
    """Print the images of an epoch for each second of the processor, from each store."""
    import tarfile
    import zipfile

    import pyarrow
    import pyarrow.parquet

    from shitu_cli.config.parts.augmentations import RandCropImage, RandFlipImage
    from shitu_cli.config.parts.samplers import DistributedBatchSampler
    from shitu_cli.config.parts.transforms import NormalizeImage
    from shitu_cli.config.schema import DatasetConfig
    from shitu_cli.data.dataset import RecDataset
    from shitu_cli.data.loader import BatchLoader
    from shitu_cli.data.samplers import Feed, build_sampler
    from shitu_cli.runtime.setup import setup_paddle

    setup_paddle("cpu")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["SHITU_CACHE"] = str(root / "cache")
        for n in range(count):
            small = np.random.default_rng(n).integers(0, 256, (40, 40, 3)).astype(np.uint8)
            image = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
            (root / f"{n}.jpg").write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())
        files = [root / f"{n}.jpg" for n in range(count)]
        with (
            tarfile.open(root / "a.tar", "w") as tar,
            zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as zip,
        ):
            for file in files:
                tar.add(file, file.name)
                zip.write(file, file.name)
        table = pyarrow.table({"image": [{"bytes": file.read_bytes(), "path": file.name} for file in files]})
        pyarrow.parquet.write_table(table, root / "snappy.parquet", row_group_size=1000)
        pyarrow.parquet.write_table(table, root / "plain.parquet", compression="none", use_dictionary=False)
        paths = {
            "files": [file.name for file in files],
            "tar": [f"a.tar::{file.name}" for file in files],
            "zip": [f"a.zip::{file.name}" for file in files],
            "Parquet, snappy": [f"snappy.parquet::image/{n}.jpg" for n in range(count)],
            "Parquet, not packed": [f"plain.parquet::image/{n}.jpg" for n in range(count)],
        }
        remote = s3_addresses(files)
        ops = (RandCropImage(size), RandFlipImage(), NormalizeImage())

        def seconds(names: list[str], workers: int | None = None) -> float:
            (root / "list.txt").write_text("".join(f"{name}\t0\n" for name in names))
            dataset = RecDataset(DatasetConfig("ImageNetDataset", folder, str(root / "list.txt"), ops))
            sampler = build_sampler(DistributedBatchSampler(batch_size=64, shuffle=True), Feed(dataset.labels))
            start = time.process_time()
            for _ in BatchLoader(dataset, sampler, seed=0, num_workers=workers).epoch(0):
                pass
            return time.process_time() - start

        best = dict.fromkeys(paths, float("inf"))
        for _ in range(3):  # the first round looks through the archives, and is the slowest
            for name, names in paths.items():
                best[name] = min(best[name], seconds(names))
        if remote:
            best["S3 on loopback, first epoch"] = seconds(remote, 16)
            best["S3, later epochs"] = min(seconds(remote, 16) for _ in range(2))
        print(f"{count:,} JPEGs of {side} px to {size} px, shuffled")
        for name, taken in best.items():
            print(f"{name:28} {count / taken:8.0f} images/CPU s  {best['files'] / taken:.2f} x files", flush=True)


def s3_addresses(files: list[Path]) -> list[str]:
    """Put files into a bucket of a server of the S3 protocol in this process; none where moto is not installed."""
    try:
        import fsspec
        from moto.server import ThreadedMotoServer
    except ImportError:
        return []
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update({**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"})
    system = fsspec.filesystem("s3")
    system.mkdir("images")
    for file in files:
        system.pipe_file(f"images/{file.name}", file.read_bytes())
    return [f"s3://images/{file.name}" for file in files]


if __name__ == "__main__":
    main()
