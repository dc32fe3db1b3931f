"""How much of seeded damage `shitu prepare` finds, and how much it invents.

    python benchmarks/audit.py DATA [--seed 0]

DATA is a folder with train.txt and val.txt of `path, fine, coarse` lines (GroceryStoreDataset) or any class folders. A
copy is damaged in 40 ways; every finding is compared with what was done. Precision is the share of findings that
were seeded, recall the share of seeded damage that was found under the right name.
"""

import argparse
import os
import random
import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np


class Copy:
    """A list of (path, label) over copied pictures; every change notes what should be found where."""

    def __init__(self, root: Path, rows: list[tuple[str, str, str]], rng: random.Random) -> None:
        self.root, self.rows, self.rng = root, rows, rng
        self.raw: list[tuple[str, str]] = []  # lines as they stand, with their split
        self.expected: set[tuple[str, str]] = set()
        self.free = rng.sample(range(len(rows)), len(rows))

    def take(self, split: str = "train") -> int:
        """A row that nothing has been done to."""
        number = next(n for n in self.free if self.rows[n][2] == split)
        self.free.remove(number)
        return number

    def file(self, number: int) -> Path:
        return self.root / self.rows[number][0]

    def expect(self, kind: str, mark: str) -> None:
        """`mark` must be in the finding's place or detail."""
        self.expected.add((kind, mark))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def replaced(data: Callable[[bytes], bytes], kind: str) -> Callable[[Copy], None]:
    def damage(copy: Copy) -> None:
        number = copy.take()
        file = copy.file(number)
        file.write_bytes(data(file.read_bytes()))
        copy.expect(kind, copy.rows[number][0])

    return damage


def recoded(change: Callable[[np.ndarray], np.ndarray], suffix: str, kind: str) -> Callable[[Copy], None]:
    def code(data: bytes) -> bytes:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return cv2.imencode(suffix, change(image))[1].tobytes()

    return replaced(code, kind)


def line(make: Callable[[str, str], str], kind: str, mark: str = "") -> Callable[[Copy], None]:
    def damage(copy: Copy) -> None:
        path, label, split = copy.rows[copy.take()]
        text = make(path, label)
        copy.raw.append((text, split))
        copy.expect(kind, mark or path)

    return damage


def copied(to: str, how: Callable[[bytes], bytes], kind: str, *, other_label: bool = False) -> Callable[[Copy], None]:
    def damage(copy: Copy) -> None:
        number = copy.take("train")
        path, label, _ = copy.rows[number]
        new = f"{path.rpartition('.')[0]}_copy_{len(copy.raw)}.jpg"
        (copy.root / new).write_bytes(how(copy.file(number).read_bytes()))
        labels = sorted({row[1] for row in copy.rows})
        label = labels[(labels.index(label) + 1) % len(labels)] if other_label else label
        copy.raw.append((f"{new}, {label}, 0", to))
        copy.expect(kind, new)

    return damage


def smaller(data: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))[1].tobytes()


def coarser(data: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()


def missing(copy: Copy) -> None:
    number = copy.take()
    copy.file(number).unlink()
    copy.expect("missing", copy.rows[number][0])


def directory(copy: Copy) -> None:
    number = copy.take()
    copy.file(number).unlink()
    copy.file(number).mkdir()
    copy.expect("unreadable", copy.rows[number][0])


def exif(data: bytes) -> bytes:
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + struct.pack("<I", 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + data[2:]


DAMAGE: tuple[Callable[[Copy], None], ...] = (
    missing,
    directory,
    replaced(lambda d: b"", "empty-file"),
    replaced(lambda d: b"a text\n", "not-an-image"),
    replaced(lambda d: b"<html>404</html>", "not-an-image"),
    replaced(lambda d: b'{"error": 1}', "not-an-image"),
    replaced(lambda d: b"PK\x03\x04" + d, "not-an-image"),
    replaced(lambda d: b"%PDF-1.4" + d, "not-an-image"),
    replaced(lambda d: bytes(500), "not-an-image"),
    replaced(lambda d: os.urandom(500), "not-an-image"),
    replaced(lambda d: d[: len(d) // 2], "truncated"),
    replaced(lambda d: d[:-1], "truncated"),
    replaced(lambda d: d[:100], "truncated"),
    replaced(
        lambda d: cv2.imencode(".png", cv2.imdecode(np.frombuffer(d, np.uint8), 1))[1].tobytes()[:3000], "truncated"
    ),
    replaced(
        lambda d: cv2.imencode(".webp", cv2.imdecode(np.frombuffer(d, np.uint8), 1))[1].tobytes()[:900], "truncated"
    ),
    replaced(lambda d: png(40_000, 40_000), "too-large"),
    replaced(lambda d: png(50, 50), "unreadable"),
    recoded(lambda i: cv2.cvtColor(i, cv2.COLOR_BGR2GRAY), ".jpg", "grey"),
    recoded(lambda i: i.astype(np.uint16) * 257, ".png", "16-bit"),
    recoded(lambda i: cv2.cvtColor(i, cv2.COLOR_BGR2BGRA), ".png", "alpha"),
    recoded(lambda i: cv2.resize(i, (16, 16)), ".jpg", "tiny"),
    recoded(lambda i: cv2.resize(i, (600, 60)), ".jpg", "extreme-aspect"),
    replaced(exif, "rotated"),
    line(lambda p, _: p, "malformed"),
    line(lambda p, _: f"{p},", "malformed"),
    line(lambda p, label: label, "malformed", ":"),
    line(lambda p, label: "???", "malformed", "???"),
    line(lambda p, label: f"{p[:-4]}, {label}, 0", "malformed", "no path of an image"),
    line(lambda p, label: f"{p}, {label}, 0", "duplicate-line"),
    line(lambda p, label: f"./{p}, {label}, 0", "duplicate-line"),
    line(lambda p, label: f"{p}, {int(label) + 1 if label.isdigit() else label + 'x'}, 0", "label-conflict"),
    line(lambda p, label: f"{p.rpartition('/')[0]}/no_such.jpg, {label}, 0", "missing", "no_such.jpg"),
    line(lambda p, label: f"../outside.jpg, {label}, 0", "outside-root", "outside.jpg"),
    line(lambda p, label: f"{p.replace('.jpg', '_z.jpg')}, apple, 0", "odd-label", "'apple'"),
    copied("train", lambda d: d, "duplicate"),
    copied("train", coarser, "near-duplicate"),
    copied("train", smaller, "near-duplicate"),
    copied("train", lambda d: d, "label-noise", other_label=True),
    copied("train", smaller, "label-noise", other_label=True),
    copied("val", lambda d: d, "leak"),
    copied("val", coarser, "leak"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from shitu_cli.preparation.prepare import Choices, read_and_split
    from shitu_cli.reporting import SilentReporter

    if not (options.data / "train.txt").is_file():
        sys.exit(f"{options.data}: no train.txt")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        rows = []
        for split in ("train", "val"):
            for text in (options.data / f"{split}.txt").read_text().splitlines():
                path, label, _ = (part.strip() for part in text.split(","))
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(options.data / path, root / path)
                rows.append((path, label, split))
        clean = _found(read_and_split([_listed(root, rows, [])], Choices(), SilentReporter()))
        copy = Copy(root, rows, random.Random(options.seed))
        for damage in DAMAGE:
            damage(copy)
        found = _found(read_and_split([_listed(root, rows, copy.raw)], Choices(), SilentReporter()))
    hit = {e for e in copy.expected if any(kind == e[0] and e[1] in text for kind, text in found)}
    true = [f for f in found if any(f[0] == kind and mark in f[1] for kind, mark in copy.expected)]
    print(f"untouched: {len(clean)} findings in {len(rows):,} pictures")
    recall, precision = len(hit) / len(copy.expected), len(true) / len(found)
    print(f"{len(DAMAGE)} kinds of damage: recall {recall:.3f}, precision {precision:.3f}")
    for kind, mark in sorted(copy.expected - hit):
        print(f"  not found: {kind} {mark}")
    for kind, text in found:
        if (kind, text) not in true:
            print(f"  not seeded: {kind} {text}")


def _listed(root: Path, rows: list[tuple[str, str, str]], raw: list[tuple[str, str]]) -> Path:
    for split in ("train", "val"):
        lines = [f"{path}, {label}, 0" for path, label, s in rows if s == split]
        lines += [text for text, s in raw if s == split]
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def _found(made) -> list[tuple[str, str]]:
    """(kind, place and detail) of every finding."""
    kinds = made.problems.to_json()
    return [(kind["kind"], f"{e['where']} {e['detail']}") for kind in kinds for e in kind["examples"]]


if __name__ == "__main__":
    main()
