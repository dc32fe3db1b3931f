"""Look at every image once: can it be decoded, and what is odd about it.

All cores decode. Results are cached by path, size and time of change, so that an interrupted check can continue.
"""

from __future__ import annotations

import hashlib
import operator
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from shitu_cli.boundary import open_own
from shitu_cli.data import heif
from shitu_cli.data.header import Header, read_header, size_problem
from shitu_cli.data.images import MAX_BYTES
from shitu_cli.errors import EnvironmentProblem, ShituError, pip_install
from shitu_cli.files import atomic_write, cannot_write
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.threads import compute_threads, image_threads
from shitu_cli.stores import WAITING, ImageState, address_of, are_remote, is_there, read_image, state_of

CACHE_FORMAT = 6
SAVE_EVERY = 20_000  # images between two saves of the cache
TASK = 16  # images looked at by a thread at a time
TINY, ASPECT = 32, 5.0
PLAIN = 16  # of 256 levels: an image that spans fewer shows nothing


@dataclass(frozen=True)
class Look:
    """The result of looking at an image. `problem` and `detail` name what spoils it, `notes` what is odd but fine.

    `digest` is a hash of its content (16 bytes). `outline` says of 16 x 16 pixels whether each is darker than the next
    one (32 bytes), `colours` is the mean colour of 4 x 4 fields (48 bytes); both are empty if it was not decoded.
    """

    width: int = 0
    height: int = 0
    problem: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()
    digest: bytes = b""
    outline: bytes = b""
    colours: bytes = b""


Entry = tuple[ImageState, bool, Look]  # whether the image was decoded, or only its header read
_values_of = operator.attrgetter(*(field.name for field in fields(Look)))  # dataclasses.astuple copies all values


def _reason(problem: ShituError, path: str) -> str:
    return problem.message.removeprefix("cannot read ").removeprefix(path).removeprefix(":").strip()


def look_at(path: str, *, decode: bool = True) -> Look:
    """Read and judge one file; never raises for what is in it, only EnvironmentProblem for a service that fails."""
    try:
        data = read_image(path, limit=MAX_BYTES)
    except ShituError as problem:
        if isinstance(problem, EnvironmentProblem) and address_of(path) is not None:
            raise
        if not is_there(path):
            return Look(problem="missing")
        return Look(problem="unreadable", detail=_reason(problem, path))
    if not data:
        return Look(problem="empty-file")
    header = read_header(data)
    if header.kind is None:
        return Look(problem="not-an-image", detail=_guess(data))
    if header.truncated:
        return Look(header.width, header.height, "truncated", header.kind)
    if why := size_problem(header):
        kind = "too-large" if header.width and header.height else "unreadable"
        return Look(header.width, header.height, kind, f"{header.kind}: {why}")
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if not decode:
        width, height = header.upright
        return Look(width, height, notes=_notes(header, width, height), digest=digest)
    if header.kind == "HEIC" and not heif.is_readable():
        return Look(header.width, header.height, "unreadable", f"HEIC, which needs a package: {pip_install('heic')}")
    image = _decode(data, header)
    if image is None:
        return Look(header.width, header.height, "unreadable", f"{header.kind} that cannot be decoded")
    height, width = image.shape[:2]
    if header.width:
        width, height = header.upright
    notes = _notes(header, width, height)
    if _is_plain(image):
        notes = (*notes, "plain")
    return Look(width, height, notes=notes, digest=digest, outline=_outline(image), colours=_colours(image))


def _decode(data: bytes, header: Header) -> np.ndarray | None:
    """Return the pixels [H, W, 3] in OpenCV's order, None if they cannot be decoded."""
    if header.kind == "HEIC":
        pixels = heif.decode(data)
        return None if pixels is None else np.ascontiguousarray(pixels[..., ::-1])
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _flags(header))
    except cv2.error:
        return None


def _flags(header: Header) -> int:
    """Return how to decode: large JPEGs at a fraction of their size, which reads the whole file twice as fast."""
    side = min(header.width, header.height) if header.kind == "JPEG" else 0
    if side < 256:
        return cv2.IMREAD_COLOR
    return (
        cv2.IMREAD_REDUCED_COLOR_2 if side < 512 else cv2.IMREAD_REDUCED_COLOR_4 if side < 1024
        else cv2.IMREAD_REDUCED_COLOR_8
    )  # fmt: skip


def _guess(data: bytes) -> str:
    head = data[:512].lstrip()
    if head[:1] == b"<":
        return "a web page or XML"
    if head[:1] in b"{[":
        return "JSON"
    if head[:4] in (b"PK\x03\x04", b"%PDF", b"\x1f\x8b\x08\x00"):
        return "an archive or document"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown bytes"
    return "text"


def _notes(header: Header, width: int, height: int) -> tuple[str, ...]:
    notes = []
    if header.animated:
        notes.append("animated")
    if header.channels == 4:
        notes.append("cmyk")
    if header.depth == 16:
        notes.append("16-bit")
    if header.alpha:
        notes.append("alpha")
    if header.channels == 1:
        notes.append("grey")
    if header.orientation > 1:
        notes.append("rotated")
    if width and height:
        if min(width, height) < TINY:
            notes.append("tiny")
        elif max(width, height) > ASPECT * min(width, height):
            notes.append("extreme-aspect")
    return tuple(notes)


def _is_plain(image: np.ndarray) -> bool:
    """Return whether an image [H, W, 3] is of one colour; a few of its pixels tell it of most that are not."""
    return all(np.ptp(part, axis=(0, 1)).max() < PLAIN for part in (image[::16, ::16], image))


def _outline(image: np.ndarray) -> bytes:
    small = cv2.resize(image, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16).sum(axis=2)
    # A few levels of slack keep plain areas from turning noise into bits.
    return np.packbits(small[:, 1:] - small[:, :-1] > 6).tobytes()


def _colours(image: np.ndarray) -> bytes:
    return cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA).tobytes()


class LookCache:
    """A cache of looks by location, valid while size and time of change stay the same.

    The file is a sequence of pickles. A save adds only new looks, so many saves cost as much as one; a file that is
    damaged, or holds more outdated than valid looks, is written anew.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, Entry] = {}
        self._fresh: dict[str, Entry] = {}  # since the last save
        self._is_sound = False  # whether the file can be added to
        if path is not None and path.is_file():
            self._load(path)

    def _load(self, path: Path) -> None:
        count, size = 0, path.stat().st_size
        try:
            with path.open("rb") as file:
                while file.tell() < size:
                    version, rows = _PlainUnpickler(file).load()
                    if version != CACHE_FORMAT:
                        return
                    self.known |= {key: (ImageState(*state), whole, Look(*look)) for key, state, whole, look in rows}
                    count += len(rows)
        except Exception:  # a damaged cache counts as empty
            return
        self._is_sound = count <= 2 * len(self.known)

    def get(self, path: str, *, decode: bool) -> Look | None:
        entry = self.known.get(path)
        if entry is None:
            return None
        state, whole, look = entry
        return look if (whole or not decode) and state == state_of(path) else None

    def put(self, path: str, state: ImageState, look: Look, *, decode: bool) -> None:
        self.known[path] = self._fresh[path] = (state, decode, look)

    def save(self) -> None:
        """Keep what is new. Raises EnvironmentProblem when the disk refuses."""
        if self.path is None:
            return
        if self._is_sound:
            try:
                with open_own(self.path, "ab") as file:
                    file.write(_packed(self._fresh))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                self._is_sound = False
                raise cannot_write(self.path, error) from error
        else:
            with atomic_write(self.path) as file:
                file.write(_packed(self.known))
            self._is_sound = True
        self._fresh.clear()


def _packed(entries: Mapping[str, Entry]) -> bytes:
    rows = [(key, tuple(state), whole, _values_of(look)) for key, (state, whole, look) in entries.items()]
    return pickle.dumps((CACHE_FORMAT, rows), protocol=5)


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, bytes and tuples, nothing that runs: the workspace may be a stranger's.

    JSON takes four times as long for a million images, and has no bytes.
    """

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"{module}.{name}")


def look_at_all(paths: list[str], reporter: Reporter, *, cache: LookCache, decode: bool = True) -> list[Look]:
    """Return looks in the order of `paths`; an interruption keeps what was seen so far in the cache."""
    looks = _kept(paths, cache, decode)
    todo = [number for number, look in enumerate(looks) if look is None]
    fresh = 0
    try:
        with (
            reporter.progress("checking", len(todo)) as bar,
            image_threads(_threads(paths), "check") as pool,
        ):
            # Tasks of several images: one each would spend a tenth of the time on handing over.
            tasks = [todo[start : start + TASK] for start in range(0, len(todo), TASK)]
            for task, seen in zip(tasks, pool.map(lambda t: _look_at_some(paths, t, decode), tasks), strict=True):
                for number, (state, look) in zip(task, seen, strict=True):
                    looks[number] = look
                    if state is not None:
                        cache.put(paths[number], state, look, decode=decode)
                bar.advance(len(task))
                fresh += len(task)
                if fresh >= SAVE_EVERY:
                    cache.save()
                    fresh = 0
    finally:
        if todo:
            cache.save()
    return [look for look in looks if look is not None]


def _kept(paths: list[str], cache: LookCache, decode: bool) -> list[Look | None]:
    """Return the cached look of each image; for addresses, many threads ask whether the image has changed."""
    if not are_remote(paths):
        return [cache.get(path, decode=decode) for path in paths]
    with ThreadPoolExecutor(_threads(paths), thread_name_prefix="shitu-check") as pool:
        return list(pool.map(lambda path: cache.get(path, decode=decode), paths))


def _threads(paths: list[str]) -> int:
    """Return how many threads look at images: more than compute where most of the time is waiting for a server."""
    return max(WAITING, compute_threads()) if are_remote(paths) else compute_threads()


def _look_at_some(paths: list[str], numbers: list[int], decode: bool) -> list[tuple[ImageState | None, Look]]:
    """Return state and look of each image; the state is None for a missing file."""
    return [(state_of(paths[number]), look_at(paths[number], decode=decode)) for number in numbers]


def report_looks(looks: Sequence[Look], place: Callable[[int], str], problems: Problems) -> None:
    """Add what the looks say; `place` returns where an image is listed."""
    for number, look in enumerate(looks):
        if look.problem:
            problems.add(look.problem, place(number), look.detail)
        for note in look.notes:
            problems.add(note, place(number), f"{look.width} x {look.height}")
