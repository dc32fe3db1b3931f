"""What `shitu prepare` costs: millions of list lines, and looking at images beside bare decoding.

    python benchmarks/prepare.py [--lines 5000000 --classes 185000] [--images 4000]

Lines: reading, checking, numbering and writing a PaddleClas list, without looking at images, in one process on one
core, in CPU seconds. Images: JPEGs of 348 x 348 made on the spot; `decode` is cv2.imdecode of the same files on the
same cores.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np


def lines(count: int, classes: int, folder: Path) -> None:
    from shitu_cli.data.lists import write_list
    from shitu_cli.preparation.alike import Alike
    from shitu_cli.preparation.checks import check_lines
    from shitu_cli.preparation.choices import Choices
    from shitu_cli.preparation.formats.base import ReadOptions
    from shitu_cli.preparation.formats.source import Source
    from shitu_cli.preparation.formats.table import TEXT_LIST
    from shitu_cli.preparation.numbering import image_list, number_classes
    from shitu_cli.preparation.official import settle_split
    from shitu_cli.preparation.problems import Problems

    path = folder / "train_list.txt"
    with path.open("w") as file:
        for n in range(count):
            file.write(f"images/{n % classes:06d}/{n:09d}.jpg {n % classes}\n")
    start = time.process_time()
    marks = [("", start)]
    problems = Problems()
    rows = TEXT_LIST.read(Source(path, ReadOptions(image_root=folder)), problems)
    marks.append(("read", time.process_time()))
    rows = check_lines(rows, problems)
    marks.append(("check", time.process_time()))
    split = settle_split(rows, Alike([], []), Choices(), problems)
    names, class_num = number_classes(rows, split, {})
    marks.append(("split and number", time.process_time()))
    for name, part in (("train", split.train), ("query", split.query)):
        write_list(folder / f"out_{name}.txt", image_list(rows, part, names, {}))
    marks.append(("write", time.process_time()))
    total = marks[-1][1] - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps = ", ".join(f"{name} {b - a:.1f} s" for (_, a), (name, b) in pairwise(marks))
    print(
        f"{count:,} lines of {classes:,} classes: {total:.1f} CPU s, peak {peak:,.0f} MB ({steps}); "
        f"{class_num:,} classes to train"
    )


def images(count: int, folder: Path) -> None:
    from shitu_cli.preparation.audit import LookCache, look_at_all
    from shitu_cli.reporting import SilentReporter

    files = []
    for n in range(count):
        rng = np.random.default_rng(n)
        image = cv2.resize(
            rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), (348, 348), interpolation=cv2.INTER_CUBIC
        )
        file = folder / f"{n}.jpg"
        file.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
        files.append(str(file))
    size = sum(os.path.getsize(file) for file in files) / count / 1000

    def decode(file: str) -> int:
        with open(file, "rb") as stream:
            return cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_COLOR).shape[0]

    def bare() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, files))

    def ours(whole: bool = True) -> None:
        look_at_all(files, SilentReporter(), cache=LookCache(None), decode=whole)

    cv2.setNumThreads(1)
    print(f"{count:,} JPEGs of 348 x 348, {size:.0f} kB, {os.cpu_count()} cores: images/s, best of 3")
    rates = {}
    for name, run in (("decode", bare), ("prepare", ours), ("prepare --quick", lambda: ours(False))):
        best = min(_timed(run) for _ in range(3))
        rates[name] = count / best
        print(f"{name:16} {rates[name]:8.0f}  {rates[name] / rates['decode']:.2f} x decode")


def _timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--classes", type=int, default=185_000)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--one", choices=("lines", "images"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is None:
        for part in ("lines", "images"):
            subprocess.run([sys.executable, __file__, "--one", part, *sys.argv[1:]], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.one == "lines":
            lines(options.lines, options.classes, Path(folder))
        else:
            images(options.images, Path(folder))


if __name__ == "__main__":
    main()
