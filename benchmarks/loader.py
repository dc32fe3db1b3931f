"""The training loader beside bare decoding and resizing and Paddle's own loader, in pictures/s.

    python benchmarks/loader.py [--pictures 1500] [--side 348] [--size 224]

JPEGs of `--side` pixels made on the spot; random crop, flip and normalisation to float32 batches of 64 at `--size`.
Bare decoding and resizing is what OpenCV takes for whole pictures on all cores. `reduced` decodes at a fraction.
Runs are interleaved, the best of three counts.
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
    options = parser.parse_args()
    from shitu_cli.config.parts.samplers import DistributedBatchSampler
    from shitu_cli.config.parts.transforms import DecodeImage, NormalizeImage, RandCropImage, RandFlipImage
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
            print(f"{name:24} {options.pictures / seconds:8.0f} pictures/s  {ratio:.2f} x bare", flush=True)


if __name__ == "__main__":
    main()
