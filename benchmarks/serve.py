"""`shitu serve` beside the bare extractor: throughput, latency at half of it, and a long run with changes of the index.

    python benchmarks/serve.py [--model DIR | --pretrained efficientnet-lite0] [--images FOLDER] [--requests 2000]
                               [--connections 16] [--rounds 3] [--changes 200 --long 20000] [--paddlex PYTHON]

Server, clients and the bare extractor share the machine: what the clients take is missing to the server. The bare
extractor gets the same encoded images in batches of 32, in this process, before and after each round of the server;
ratios are of rounds that lie side by side. Each request holds one image. `latency` sends at random moments (a Poisson
process) at half of the throughput that was measured, and compares with one image through the bare extractor. `long`
searches while photos are added and removed: every answer is checked, and the memory of the server is watched.
`--paddlex` names a Python that has PaddleX: its module runs the same exported model on the same files, in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import uvloop

from shitu_cli.features.extractor import Extractor
from shitu_cli.index.files import save_index
from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex

BATCH = 32
# What another Python runs: argv are the model, a folder of images, how many requests. It prints images per second with
# one image in a batch and with 32, and the sorted seconds of single images.
PADDLEX = """
import json, pathlib, sys, time
from paddlex import create_model
model = create_model(model_name="PP-ShiTuV2_rec", model_dir=sys.argv[1], device="cpu")
files = sorted(map(str, pathlib.Path(sys.argv[2]).iterdir()))
files = (files * (int(sys.argv[3]) // len(files) + 1))[: int(sys.argv[3])]
list(model.predict(files[:3]))
rates, singles = [], []
for size in (1, 32):
    begun = time.perf_counter()
    list(model.predict(files, batch_size=size))
    rates.append(len(files) / (time.perf_counter() - begun))
for file in files[:100]:
    begun = time.perf_counter()
    list(model.predict(file))
    singles.append(time.perf_counter() - begun)
print(json.dumps([rates, sorted(singles)]))
"""


def drawn_images(count: int, side: int = 480) -> list[bytes]:
    """JPEGs of the size of a product photo: smooth, with some noise."""
    images = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        base = cv2.resize(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
        image = np.clip(base.astype(np.int16) + rng.integers(-12, 13, base.shape), 0, 255).astype(np.uint8)
        images.append(cv2.imencode(".jpg", image)[1].tobytes())
    return images


@contextlib.contextmanager
def server(model: str, index: Path) -> Iterator[tuple[int, int]]:
    """Run `shitu serve`; yield its port and its process id."""
    command = [sys.executable, "-m", "shitu_cli", "serve", model, str(index), "--port", "0"]
    process = subprocess.Popen(command, cwd=index.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+) ", process.stdout.readline())
        assert found, "the server does not start"
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        print(f"server stopped with exit code {process.wait(60)}")


def request_of(path: str, body: bytes, kind: str = "image/jpeg") -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """A connection that stays open; as little work as possible, as it shares the machine with the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None

    async def __aenter__(self) -> Connection:
        self.loop = asyncio.get_running_loop()
        self.transport, _ = await self.loop.create_connection(lambda: self, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.transport.close()

    async def post(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return the status and the body of its answer."""
        self.received, self.answer = b"", self.loop.create_future()
        self.transport.write(request)
        return await self.answer

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length and len(body) == int(length[1]):
            self.answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(error or ConnectionError("the server has closed the connection"))


async def throughput(port: int, images: list[bytes], requests: int, connections: int) -> float:
    """Images per second with so many clients that each wait for their answer."""
    numbers, ready = iter(range(requests)), [request_of("/search", image) for image in images]

    async def client() -> None:
        async with Connection(port) as connection:
            for number in numbers:
                status, _ = await connection.post(ready[number % len(ready)])
                assert status == 200, status

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return requests / (time.perf_counter() - begun)


async def latencies(port: int, images: list[bytes], rate: float, requests: int) -> list[float]:
    """Seconds from each moment at which a request was due to its answer."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    seconds: list[float] = []
    ready = [request_of("/search", image) for image in images]

    async def one(number: int, due: float) -> None:
        connection = await free.get()
        await connection.post(ready[number % len(ready)])
        seconds.append(time.perf_counter() - due)
        free.put_nowait(connection)

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(64):
            free.put_nowait(await stack.enter_async_context(Connection(port)))
        waiting, due, chance = [], time.perf_counter(), random.Random(0)
        for number in range(requests):
            due += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            waiting.append(asyncio.create_task(one(number, due)))
        await asyncio.gather(*waiting)
    return sorted(seconds)


async def long_run(port: int, pid: int, images: list[bytes], requests: int, changes: int) -> None:
    """Search while the index changes; count wrong answers and errors, and watch the memory."""
    numbers, wrong, over = iter(range(requests)), [0], asyncio.Event()
    memory: list[int] = []

    async def search() -> None:
        async with Connection(port) as connection:
            for number in numbers:
                at = number % len(images)
                status, body = await connection.post(request_of("/search?top=1", images[at]))
                match = json.loads(body)["results"][0]["matches"][0] if status == 200 else {"label": None}
                wrong[0] += match["label"] != f"thing {at}"
                if number % max(1, requests // 20) == 0:
                    memory.append(resident(pid))

    async def change() -> int:
        made = 0
        async with Connection(port) as connection:
            for number, photo in enumerate(drawn_images(changes, 64)):
                status, body = await connection.post(request_of(f"/add?label=new{number}", photo))
                assert status == 200, body
                removal = json.dumps({"ids": [json.loads(body)["added"][0]["id"]]}).encode()
                status, body = await connection.post(request_of("/remove", removal, "application/json"))
                assert status == 200, body
                made += 2
                if over.is_set():
                    break
        return made

    changing = asyncio.create_task(change())
    begun = time.perf_counter()
    await asyncio.gather(*(search() for _ in range(8)))
    seconds = time.perf_counter() - begun
    over.set()
    made = await changing
    print(
        f"long    {requests:,} searches, {made} changes beside them, {seconds:.0f} s: {wrong[0]} wrong or failed; "
        f"memory {memory[1]} MB at a twentieth, {memory[len(memory) // 2]} MB in the middle, {memory[-1]} MB at the end"
    )


def processor_seconds(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """MB of memory that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) // 1024 if found else 0


def bare(extractor: Extractor, images: list[bytes], requests: int) -> tuple[float, float]:
    """Images per second of the extractor alone, in batches, and processor seconds of each image."""
    rounds = max(1, requests // len(images))
    begun, work = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        extractor.extract(images)
    count = rounds * len(images)
    return count / (time.perf_counter() - begun), (time.process_time() - work) / count


def singles(extractor: Extractor, images: list[bytes]) -> list[float]:
    """Seconds of each image alone, sorted."""
    seconds = []
    for image in images * 2:
        begun = time.perf_counter()
        extractor.extract([image])
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)


def paddlex(python: str, model: str, images: list[bytes], requests: int) -> None:
    """Print what PaddleX's module reaches with the same model and images; nothing else may run meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images):
            (Path(folder) / f"{number:03}.jpg").write_bytes(image)
        command = [python, "-c", PADDLEX, str(Path(model).resolve()), folder, str(requests)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    (one, many), seconds = json.loads(done.stdout.splitlines()[-1])
    p50, p99 = (1000 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
    print(
        f"PaddleX's module  {one:.1f} images/s one by one, {many:.1f} in batches of 32; calls of one image: "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )


def measure(arguments: argparse.Namespace, extractor: Extractor, images: list[bytes], port: int, pid: int) -> None:
    requests = arguments.requests
    uvloop.run(throughput(port, images, min(100, requests), 4))  # warm
    rounds = []
    for number in range(arguments.rounds):
        before, work = bare(extractor, images, requests)
        begun, client = processor_seconds(pid), time.process_time()
        served = uvloop.run(throughput(port, images, requests, arguments.connections))
        spent, client = (processor_seconds(pid) - begun) / requests, (time.process_time() - client) / requests
        after, more = bare(extractor, images, requests)
        alone, work = (before + after) / 2, (work + more) / 2
        rounds.append((served / alone, work / spent, served))
        print(
            f"round {number + 1}  bare {alone:.1f} images/s, serve {served:.1f}: {served / alone:.0%}; cpu "
            f"an image: bare {1000 * work:.1f} ms, server {1000 * spent:.1f} ms ({work / spent:.0%}), client "
            f"{1000 * client:.1f} ms"
        )
    ratios, works, rates = ([one[at] for one in rounds] for at in range(3))
    print(
        f"throughput  {statistics.median(ratios):.0%} of the bare extractor by the clock, "
        f"{statistics.median(works):.0%} by processor time (medians of the rounds)"
    )
    half = statistics.median(rates) / 2
    calls = singles(extractor, images)
    seconds = uvloop.run(latencies(port, images, half, requests))
    calls = sorted(calls + singles(extractor, images))
    (p50, p99), (call, slow) = (
        [1000 * many[int(share * len(many))] for share in (0.5, 0.99)] for many in (seconds, calls)
    )
    print(
        f"latency at {half:.1f} requests/s  p50 {p50:.1f} ms, p99 {p99:.1f} ms; bare calls of one image: "
        f"p50 {call:.1f} ms, p99 {slow:.1f} ms. p99 is {p99 / call:.1f} times a bare call, "
        f"{p99 / slow:.1f} times its p99"
    )
    if arguments.long:
        uvloop.run(long_run(port, pid, images, arguments.long, arguments.changes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--pretrained", default="efficientnet-lite0")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--paddlex", metavar="PYTHON")
    arguments = parser.parse_args()
    model = arguments.model
    if model is None:
        from shitu_cli.deployment.pretrained import export_pretrained
        from shitu_cli.reporting import SilentReporter

        model = str(export_pretrained(arguments.pretrained, SilentReporter()))
    files = sorted(arguments.images.rglob("*.jpg"))[:128] if arguments.images else []
    images = [file.read_bytes() for file in files] or drawn_images(128)
    extractor = Extractor(model, batch_size=BATCH)
    labels = [f"thing {number}" for number in range(len(images))]
    with tempfile.TemporaryDirectory() as folder:
        table = FeatureTable(extractor.extract(images), labels, labels)
        options = BuildOptions(model=extractor.fingerprint, model_path=str(model))
        save_index(VectorIndex.build(table, options), Path(folder) / "index")
        with server(str(Path(model).resolve()), Path(folder) / "index") as (port, pid):
            print(
                f"{extractor.engine.summary()}; {len(images)} images of "
                f"{sum(map(len, images)) / len(images):,.0f} bytes"
            )
            measure(arguments, extractor, images, port, pid)
        if arguments.paddlex:
            paddlex(arguments.paddlex, model, images, min(arguments.requests, 256))


if __name__ == "__main__":
    main()
