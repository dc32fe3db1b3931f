"""What a cold `shitu search photo.jpg` takes: the process from its start to its answer, and the packages it loads.

    python benchmarks/cold_search.py photo.jpg [--model inference --index index] [--runs 10]

Seconds are the processor's (user and system), which other work on the machine changes less than the clock; the median
of the runs, after one that warms the disk cache. Imports are those of one run with -X importtime, each package with
the modules that it loads itself. Run it without PYTHONDONTWRITEBYTECODE, with which every run compiles this program.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter

SHOWN = 15  # packages
PACKAGES = ("numpy", "cv2", "onnxruntime", "yaml", "typer")  # what a search of an exported network cannot do without


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--model")
    parser.add_argument("--index")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    search = ["-m", "shitu_cli", "search", options.image, "--json"]
    search += [
        word for name in ("model", "index") if (value := getattr(options, name)) for word in (f"--{name}", value)
    ]
    bare = ["-c", f"import {', '.join(PACKAGES)}"]
    imported = 0.0
    for name, words in (("bare imports", bare), ("search", search)):
        clock, processor = timed(words, options.runs)
        imported = imported or processor
        ratio = f"{processor / imported:.2f} of bare imports"
        print(f"{name:14} {processor:6.3f} s of the processor  {clock:6.3f} s on the clock  {ratio}")
    print("\nms   imported by a search")
    for package, microseconds in imports(search).most_common(SHOWN):
        print(f"{microseconds / 1000:4.0f} {package}")


def timed(words: list[str], runs: int) -> tuple[float, float]:
    """Return the median seconds on the clock and of the processor."""
    clock, processor = [], []
    for number in range(runs + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if number:
            clock.append(seconds)
            processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(clock), statistics.median(processor)


def imports(words: list[str]) -> Counter[str]:
    """Return the microseconds of imports by package; this program's by room."""
    argv = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ})
    total: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if line.startswith("import time:") and line.count("|") == 2 and "self" not in line:
            own, _, module = line.removeprefix("import time:").split("|")
            parts = module.strip().split(".")
            total[".".join(parts[: 2 if parts[0] == "shitu_cli" else 1])] += int(own)
    return total


if __name__ == "__main__":
    main()
