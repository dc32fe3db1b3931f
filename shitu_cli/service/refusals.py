"""Errors of requests: an HTTP status, what is wrong, and how to do it right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shitu_cli.errors import DataError, EnvironmentProblem, ShituError, UsageError
from shitu_cli.reporting import visible

MAX_DETAILS = 20
REPEATED = "repeated"  # a type of problem, beside those of pydantic
DESCRIPTION = "GET /openapi.json describes every address"
BAD_REQUEST, UNAUTHORISED, FORBIDDEN, NOT_FOUND, NOT_ALLOWED, TIMEOUT, CONFLICT = 400, 401, 403, 404, 405, 408, 409
TOO_LARGE, UNPROCESSABLE, TOO_MANY, INTERNAL, UNAVAILABLE = 413, 422, 429, 500, 503


class Refusal(Exception):
    """A request that is not answered: the status, what is wrong, and how to do it right.

    `retry_after` is the number of seconds after which the same request may succeed, None if it never will.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        details: Sequence[str] = (),
        hint: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint
        self.details, self.retry_after = list(details), retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == UNAUTHORISED:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status in (TOO_LARGE, TIMEOUT):
            headers["Connection"] = "close"  # what is still to come is not read
        return headers

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer; clients may show its texts as they are."""
        shown = [visible(text) for text in self.details[:MAX_DETAILS]]
        if len(self.details) > MAX_DETAILS:
            shown.append(f"and {len(self.details) - MAX_DETAILS} more")
        hint = None if self.hint is None else visible(self.hint)
        return {"error": {"message": visible(self.message), "details": shown, "hint": hint}}


_STATUS: Mapping[type[ShituError], int] = {
    DataError: UNPROCESSABLE,
    UsageError: UNPROCESSABLE,
    EnvironmentProblem: UNAVAILABLE,
}


def refusal_of(error: ShituError) -> Refusal:
    """Return an error of the library as a refusal; a failing disk or server may work again later."""
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), INTERNAL)
    retry = 5 if status == UNAVAILABLE else None
    return Refusal(status, error.message, details=error.details, hint=error.hint, retry_after=retry)


def unusable(problems: Sequence[str], total: int) -> Refusal:
    """Return the refusal of a request with `total` images, some of which have the `problems`, one each."""
    which = f"{len(problems)} of {total} images" if total > 1 else "this image"
    return Refusal(UNPROCESSABLE, f"{which} cannot be used", details=problems)


# What pydantic says of a whole body.
_BODIES = {
    "json_invalid": "it is not valid JSON",
    "model_attributes_type": "expected a JSON object, sent with the header Content-Type: application/json",
}


def malformed(problems: Sequence[Mapping[str, Any]], known: Sequence[str] = ()) -> Refusal:
    """Return the refusal of a request whose values are wrong, with pydantic's `problems` in words.

    Options that came more than once have the type REPEATED. `known` are the options of an address that takes no others.
    """
    details = []
    for problem in problems:
        place = ".".join(str(part)[:60] for part in problem["loc"]) or "the body"
        if problem["type"] in _BODIES:
            place, text = "the body", _BODIES[problem["type"]]
        elif problem["type"] == "missing" and not problem["loc"]:
            text = "it is empty"
        elif problem["type"] == "extra_forbidden":
            text = (
                f"there is no such option here, only {', '.join(known)}" if known else "this address takes no options"
            )
        elif problem["type"] == REPEATED:
            text = "given more than once" + ("; labels takes one for each image" if place == "label" else "")
        else:
            text = str(problem["msg"]).removeprefix("Value error, ")
        details.append(f"{place}: {text}")
    return Refusal(UNPROCESSABLE, "the request does not have the expected form", details=details, hint=DESCRIPTION)


def unexpected() -> Refusal:
    """Return the refusal for an unexpected error, which reveals nothing about the program."""
    return Refusal(INTERNAL, "something went wrong here; the log of the server says what")
