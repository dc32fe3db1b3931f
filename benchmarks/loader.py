"""The training loader beside bare decoding and Paddle's own loader, in pictures/s.

    python benchmarks/loader.py [--pictures 1500] [--size 224]

JPEGs of 348 x 348 made on the spot, the augmentations of the template general_v1 at `--size`, batches of 64.
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
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    from shitu_cli.config.schema import Component, DatasetConfig, SamplerConfig
    from shitu_cli.data.batch import to_input
    from shitu_cli.data.dataset import RecDataset
    from shitu_cli.data.loader import BatchLoader
    from shitu_cli.data.samplers import build_sampler

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for n in range(options.pictures):
            rng = np.random.default_rng(n)
            small = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            image = cv2.resize(small, (348, 348), interpolation=cv2.INTER_CUBIC)
            (root / f"{n}.jpg").write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())
        (root / "list.txt").write_text("".join(f"{n}.jpg\t{n % 10}\n" for n in range(options.pictures)))
        ops = (
            Component("RandCropImage", {"size": options.size}),
            Component("RandFlipImage", {"flip_code": 1}),
            Component("NormalizeImage", {"scale": "1.0/255.0"}),
        )
        dataset = RecDataset(DatasetConfig("ImageNetDataset", folder, str(root / "list.txt"), ops), root)
        sampler = build_sampler(SamplerConfig(batch_size=64, shuffle=True), dataset.labels, seed=0, rank=0, world=1)

        def bare() -> None:
            def decode(n: int) -> int:
                return cv2.imdecode(np.frombuffer((root / f"{n}.jpg").read_bytes(), np.uint8), 1).shape[0]

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(decode, range(options.pictures)))

        def ours() -> None:
            for batch in BatchLoader(dataset, sampler, seed=0).epoch(0):
                to_input(batch.images, dataset.normalization)

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

        print(print(f"{options.pictures:,} JPEGs of 348 x 348 to {options.size} px, {os.cpu_count()} cores"))
        rates = {}
        for name, run in (
            ("bare decoding", bare),
            ("shitu", ours),
            ("paddle.io, 0 workers", lambda: paddles(0)),
            ("paddle.io, 2 workers", lambda: paddles(2)),
        ):
            best = min(_timed(run) for _ in range(2))
            rates[name] = options.pictures / best
            print(f"{name:22} {rates[name]:8.0f}  {rates[name] / rates['bare decoding']:.2f} x decoding", flush=True)


def _timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
