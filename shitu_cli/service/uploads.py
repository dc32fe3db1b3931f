"""Images from a request, however it sends them: a form, the bytes of one image, or base64 in JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from shitu_cli.data.header import read_header, size_problem
from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json
from shitu_cli.service.batching import Image
from shitu_cli.service.refusals import BAD_REQUEST, REPEATED, UNPROCESSABLE, Refusal, malformed, unusable
from shitu_cli.service.schemas import Options
from shitu_cli.service.settings import Limits

UNSUPPORTED = 415
FORM, URL_ENCODED, JSON = "multipart/form-data", "application/x-www-form-urlencoded", "application/json"
HOW = 'send a form (curl -F image=@photo.jpg), the bytes of one image, or JSON {"images": ["…"]} with base64 texts'
BASE64 = "standard base64 of the file of an image, as base64.b64encode(data) in Python or base64 -w0 photo.jpg gives it"
FIELD_BYTES = 65_536
AT_ONCE = 1 << 18  # bytes of JSON that take no noticeable time to read
FIELDS = 256

Given = TypeVar("Given", bound=Options)


async def read_images(request: Request, options: type[Given], limits: Limits) -> tuple[list[Image], Given]:
    """Return the images of a request, at least one and each within the limits, and what else it says.

    Options are in the query, the form or the JSON. Raises Refusal for what is missing, too much or misspelt.
    """
    given = _grouped(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        images, more = await _from_form(request, limits)
    elif kind == JSON:
        body = await request.body()
        if len(body) > AT_ONCE:  # others are answered while a thread reads it
            images, more = await asyncio.get_running_loop().run_in_executor(None, _from_json, body)
        else:
            images, more = _from_json(body)
    elif not kind or kind.startswith("image/") or kind in ("application/octet-stream", URL_ENCODED):
        body = await request.body()
        if kind == URL_ENCODED and body and read_header(body).kind is None:  # what curl --data-binary calls anything
            raise Refusal(UNSUPPORTED, f"what was sent (as {URL_ENCODED}) is not an image", hint=HOW)
        images, more = ([Image(body, "the image")] if body else []), {}
    else:
        raise Refusal(UNSUPPORTED, f"content type {kind[:80]} carries no image", hint=HOW)
    check_images(images, limits)
    refuse_repeated(name for name in more if name in given)
    return images, checked(options, {**given, **more})


def refuse_repeated(names: Iterable[str]) -> None:
    """Raise a Refusal for options that are given more than once: all but the last would be ignored."""
    if repeated := sorted(set(names)):
        raise malformed([{"loc": (name,), "type": REPEATED} for name in repeated])


def checked(model: type[Given], values: Mapping[str, Any]) -> Given:
    """Return the values as `model` describes them; a Refusal names every one that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise malformed(problems, [*model.model_fields]) from None


def check_images(images: Sequence[Image], limits: Limits) -> None:
    """Raise a Refusal that names every image that is too large, or what else keeps them from being used."""
    if not images:
        raise Refusal(UNPROCESSABLE, "there is no image in the request", hint=HOW)
    if len(images) > limits.images:
        raise _too_many(limits)
    problems = []
    for image in images:
        header = read_header(image.data)
        if header.kind is None:
            problems.append(f"{image.name}: not an image" if image.data else f"{image.name}: the file is empty")
        elif problem := size_problem(header, limits.pixels):
            problems.append(f"{image.name}: {problem}")
    if problems:
        raise unusable(problems, len(images))


def decode_base64(text: str, name: str) -> bytes:
    """Return the bytes of base64, with or without the `data:` prefix of browsers; a Refusal for anything else."""
    if text.startswith(("http://", "https://")):
        raise Refusal(
            UNPROCESSABLE, f"{name}: an address; this server fetches nothing", hint="send the image itself, in base64"
        )
    try:
        return base64.b64decode("".join(text.removeprefix("data:").rpartition(",")[2].split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(UNPROCESSABLE, f"{name}: not base64", hint=BASE64) from None


async def _from_form(request: Request, limits: Limits) -> tuple[list[Image], dict[str, Any]]:
    try:
        form = await request.form(max_files=limits.images + 1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise _too_many(limits) from None
        raise Refusal(BAD_REQUEST, f"the form is damaged: {error.detail}", hint=HOW) from None
    images: list[Image] = []
    fields: list[tuple[str, Any]] = []
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                images.append(Image(await value.read(), value.filename or f"image {len(images) + 1}"))
            else:
                fields.append((name, value))
    finally:
        await form.close()
    return images, _grouped(fields)


def _from_json(body: bytes) -> tuple[list[Image], dict[str, Any]]:
    values = _json_object(body)
    given = values.pop("images", None)
    single = values.pop("image", None)
    if given is not None and single is not None:
        raise Refusal(UNPROCESSABLE, "give either image or images", hint="images takes any number")
    texts = [single] if given is None and single is not None else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(UNPROCESSABLE, "images: expected a list of texts in base64", hint=HOW)
    names = [f"image {number}" for number in range(1, len(texts) + 1)]
    return [Image(decode_base64(text, name), name) for text, name in zip(texts, names, strict=True)], values


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        values = parse_json(body, "the body")
    except DataError as error:
        raise Refusal(BAD_REQUEST, error.message, hint=HOW) from None
    if not isinstance(values, dict):
        raise Refusal(UNPROCESSABLE, f"expected a JSON object, got {type(values).__name__}", hint=HOW)
    return values


def _grouped(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return fields by name, `labels` as a list; a Refusal for any other that comes more than once."""
    values: dict[str, Any] = dict(fields)
    counts = Counter(name for name, _ in fields)
    refuse_repeated(name for name, count in counts.items() if count > 1 and name != "labels")
    if "labels" in values:
        values["labels"] = [value for name, value in fields if name == "labels"]
    return values


def _too_many(limits: Limits) -> Refusal:
    return Refusal(UNPROCESSABLE, f"more than {limits.images} images in one request", hint="send them in several")
