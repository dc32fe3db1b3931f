"""Features of images from a program: `from shitu_cli import Extractor; Extractor("inference").extract(images)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shitu_cli.config.arguments import COUNT, NATURAL, require, require_config, require_flags
from shitu_cli.config.parts import transforms as parts
from shitu_cli.data.images import Box, decode_image, turn_upright
from shitu_cli.data.loader import NO_RANDOMNESS, SequentialLoader
from shitu_cli.data.transforms import Transform, build_transforms
from shitu_cli.errors import DataError
from shitu_cli.features.backends import EXPORT_AGAIN
from shitu_cli.features.engine import Engine, features_fingerprint
from shitu_cli.features.one_process import OfOneProcess
from shitu_cli.features.selection import BATCH, Request, load_engine, preprocessing_of
from shitu_cli.features.unit_length import normalized
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.stores import are_remote

if TYPE_CHECKING:
    from shitu_cli.config.schema import Config

ORIENTATION = 0x0112  # EXIF's tag


class ImagePart(ABC):
    """A part of an image, in a file or encoded."""

    path: str | Path | bytes

    @abstractmethod
    def pixels(self, enough: int | None = None) -> np.ndarray:
        """Return it as uint8 [H, W, 3]; a reduced one will do if its short side has `enough` pixels."""


@dataclass(frozen=True)
class Cropped(ImagePart):
    """The part of an image inside `box` x1, y1, x2, y2 in pixels."""

    path: str | Path | bytes
    box: Box

    def pixels(self, enough: int | None = None) -> np.ndarray:
        return decode_image(self.path, box=self.box, enough=enough)


class PillowImage(Protocol):
    """An image opened with Pillow, which is not needed here."""

    def convert(self, mode: str) -> Any: ...


ImageInput = str | Path | bytes | np.ndarray | ImagePart | PillowImage
Images = Iterable[ImageInput] | ImageInput  # several, or a single one


def listed(images: Images) -> list[ImageInput]:
    """Return images as a list, a single one as a list of one.

    An array of paths, such as a column of a table, is several; any other array of up to three dimensions is one image.
    """
    if isinstance(images, (bytearray, memoryview)):
        images = bytes(images)
    is_array = isinstance(images, np.ndarray) and images.ndim <= 3
    are_paths = isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "OSU"
    if (is_array and not are_paths) or isinstance(images, (str, bytes, Path, ImagePart)):
        return [images]  # type: ignore[list-item]
    if hasattr(images, "convert") or hasattr(images, "read"):  # of Pillow; an open file would give its lines
        return [images]  # type: ignore[list-item]
    if not isinstance(images, Iterable):
        raise DataError(f"a value of type {type(images).__name__} cannot be used as an image or as several")
    return [bytes(image) if isinstance(image, (bytearray, memoryview)) else image for image in images]


def inputs_of(files: ImageFiles) -> list[ImageInput]:
    """Return the images of the command line as inputs of the extractor."""
    return [file if box is None else Cropped(file, box) for file, box in zip(files.files, files.boxes, strict=True)]


class Extractor(OfOneProcess):
    """Computes features of images with an exported model (directory or file), prepared as it was trained.

    Threads may share it, other processes may not. A feature depends on its image alone, not on the others.

    Args:
        model: An exported directory or file, or a checkpoint with its `config`.
        config: The config of a checkpoint, or of a model exported by another program.
        threads: Compute threads; by default all that the process may use.
        precision: `fp32` or `bf16`; by default what the model was exported for.
        batch_size: Images to read at once; the engine that was fastest for about this many is used.
        images: How many images there will be in all, if they are few: then an engine that opens quickly is used.
        gpu: The number of the card to run on; by default the CPU.

    Raises DataError for a damaged model, EnvironmentProblem if this machine cannot run it that way.
    """

    def __init__(
        self,
        model: str | Path = "inference",
        *,
        config: Config | None = None,
        threads: int | None = None,
        precision: str | None = None,
        batch_size: int = BATCH,
        images: int | None = None,
        gpu: int | None = None,
    ) -> None:
        require(COUNT, threads=threads, batch_size=batch_size)
        require(NATURAL, images=images, gpu=gpu)
        if config is not None:
            require_config(config)
        super().__init__()
        self.path = path = Path(model)
        self.batch_size = batch_size
        self.engine: Engine = load_engine(path, config, Request(threads, precision, batch_size, images, gpu))
        self.transform_ops = _transform_ops(path, config)
        self.transform: Transform = build_transforms(self.transform_ops)

    @property
    def feature_size(self) -> int:
        return self.engine.feature_size

    @property
    def fingerprint(self) -> str:
        """Identifies weights and preprocessing: features compare only if it is the same."""
        return features_fingerprint(self.engine.fingerprint, self.transform_ops)

    def extract(self, images: Images, *, normalize: bool = True) -> np.ndarray:
        """Return the features float32 [N, feature_size] of paths, encoded bytes, Pillow images or uint8 arrays.

        A single one counts as a list of one. They are of unit length unless `normalize` is false.

        Arrays are RGB or RGBA [H, W, 3 or 4] or grey [H, W]. Raises DataError for the first image that cannot be read,
        named by its file or its position.
        """
        items = listed(images)
        features = np.empty((len(items), self.feature_size), np.float32)
        for indices, part, skipped in self.batches(items, normalize=normalize):
            if skipped:
                place, reason = next(iter(skipped.items()))
                named = isinstance(items[place], (str, Path, ImagePart))
                raise DataError(reason if named else f"image {place + 1} of {len(items)}: {reason}")
            features[indices] = part
        return features

    def read(self, image: ImageInput) -> np.ndarray:
        """Return an image decoded and prepared for `compute`: uint8 [H, W, 3], or float32 [3, H, W] if normalised.

        A service reads each image in the thread of its request, then computes many at once. Raises DataError.
        """
        return _prepared(image, self.transform, NO_RANDOMNESS)

    def compute(self, inputs: np.ndarray, *, normalize: bool = True) -> np.ndarray:
        """Return the features float32 [N, feature_size] of images from `read`, stacked in one array [N, ...]."""
        require_flags(normalize=normalize)
        self._require_own_process()
        if not isinstance(inputs, np.ndarray) or inputs.ndim != 4:
            raise DataError("expected images from read() in one array", hint="np.stack([extractor.read(image)])")
        features = self.engine(inputs)
        return normalized(features) if normalize else features

    def batches(
        self, images: Sequence[ImageInput], *, start: int = 0, stop: int | None = None, normalize: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict[int, str]]]:
        """Yield (indices, features, reasons by index of the images that cannot be read) a batch at a time.

        From image `start` to image `stop`; features float32 [n, feature_size] are those of `indices`.
        """
        loader = SequentialLoader(InputDataset(images, self.transform), self.batch_size, start, stop, on_error="skip")
        for number, batch in enumerate(loader):
            features = np.empty((0, self.feature_size), np.float32)
            if len(batch.indices):
                features = self.compute(batch.images, normalize=normalize)
            # The loader reads ahead, so `skipped` may hold images of later batches: only this batch's are looked up.
            first = start + number * self.batch_size
            here = range(first, min(first + self.batch_size, loader.stop))
            skipped = {n: loader.skipped[n] for n in here if n in loader.skipped}
            yield batch.indices, features, skipped


class InputDataset:
    """Images of any kind as a dataset for the loader."""

    def __init__(self, images: Sequence[ImageInput], transform: Transform) -> None:
        self.images, self.transform = images, transform
        self.labels = np.zeros(len(images), np.int64)
        self.is_remote = are_remote([image.path if isinstance(image, ImagePart) else image for image in images])

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, rng: np.random.Generator) -> np.ndarray:
        return _prepared(self.images[index], self.transform, rng)


def _prepared(image: ImageInput, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    if isinstance(image, ImagePart):
        return transformed(image.path, image.pixels(transform.enough), transform, rng)
    if isinstance(image, (str, Path, bytes)):
        return transformed(image, decode_image(image, enough=transform.enough), transform, rng)
    return transformed(image, rgb(image), transform, rng)


def transformed(source: ImageInput, pixels: np.ndarray, transform: Transform, rng: np.random.Generator) -> np.ndarray:
    """Return the transformed pixels of an image. Raises DataError if they would be too many.

    The error names a file, and encoded bytes as `decode_image` does; whoever passes an array knows which one it is.
    """
    try:
        return transform(pixels, rng)
    except DataError as error:
        if not isinstance(source, (str, Path, bytes)):
            raise
        name = "image bytes" if isinstance(source, bytes) else source
        raise DataError(f"{name}: {error.message}", hint=error.advice) from None


def rgb(image: np.ndarray | PillowImage) -> np.ndarray:
    """Return an array or a Pillow image as uint8 [H, W, 3], converted as a file of its kind is."""
    if hasattr(image, "convert"):
        return _of_pillow(image)
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"a value of type {type(image).__name__} cannot be used as an image: "
            "expected a path, bytes, an array or a Pillow image"
        )
    if image.dtype == np.uint8 and image.size and image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
        raise DataError(f"an array of {image.dtype} {image.shape}: expected uint8 RGB [height, width, 3]")
    return np.ascontiguousarray(image[:, :, :3])


def _of_pillow(image: PillowImage) -> np.ndarray:
    """Return a Pillow image upright; its own conversion clips 16 bits at 255 and ignores the orientation in EXIF."""
    mode = str(getattr(image, "mode", ""))
    if mode in ("I", "F"):
        raise DataError(
            f"a Pillow image of mode {mode}, whose range of values is unknown",
            hint="scale the values to 0–255 first, or pass the path of the file",
        )
    try:
        if mode.startswith("I;16"):
            pixels = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        else:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:  # Pillow reads a file only now: it may be cut off, or closed
        raise DataError(f"a Pillow image that cannot be read: {error}") from None
    if not pixels.size:
        raise DataError("a Pillow image without pixels")
    turned = image.getexif().get(ORIENTATION, 1) if hasattr(image, "getexif") else 1
    return turn_upright(pixels, turned) if turned in range(2, 9) else pixels


def _transform_ops(path: Path, config: Config | None) -> tuple[parts.Transform, ...]:
    ops = preprocessing_of(path, config)
    if ops is None:
        raise DataError(f"{path}: its preprocessing is not known", hint=EXPORT_AGAIN)
    return ops
