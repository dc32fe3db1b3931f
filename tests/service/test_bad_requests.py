"""More than a hundred kinds of requests that make no sense: each is refused in words, none harms the server."""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mutations import at_least, cases, mutations
from tests.service.conftest import Server, png, start_server

POSTS = ("/search", "/features", "/add", "/remove")
PADDLEX = ("/shitu-infer", "/shitu-index-build", "/shitu-index-add", "/shitu-index-remove")
TEXT = base64.b64encode(png(1)).decode()
NAMES = ["images", "image", "top", "label", "labels", "ids", "indexKey", "imageLabelPairs"]
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


def huge_png(width: int, height: int) -> bytes:
    """A header that claims so many pixels."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(40)


def part(name: str, body: bytes, *, file: str | None = "a.png") -> bytes:
    kind = "" if file is None else f'; filename="{file}"'
    return b"".join(
        [f'--x\r\nContent-Disposition: form-data; name="{name}"{kind}\r\n\r\n'.encode(), body, b"\r\n"],
    )


def raw(content: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"content": content, "headers": {"Content-Type": kind}}


def body(value: object) -> dict[str, Any]:
    return {"content": json.dumps(value).encode(), "headers": JSON}


def images() -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests with images that are none, or too much."""
    good = png(1)
    yield "no body", {}
    yield "empty body", raw(b"")
    yield "text", raw(b"hello, this is no image")
    yield "cut off", raw(good[:40])
    yield "header only", raw(good[:33])
    yield "html", raw(b"<html><script>alert(1)</script></html>")
    yield "too many pixels", raw(huge_png(60_000, 60_000))
    yield "4 billion wide", raw(huge_png(2**32 - 1, 2**32 - 1))
    yield "no width", raw(huge_png(0, 0))
    yield "jpeg marker only", raw(b"\xff\xd8", "image/jpeg")
    yield "gif header only", raw(b"GIF89a", "image/gif")
    yield "webp of nothing", raw(b"RIFF\0\0\0\0WEBP", "image/webp")
    yield "bmp that lies", raw(b"BM" + struct.pack("<IHHIIiiHH", 99, 0, 0, 54, 40, 10**6, -(10**6), 1, 24), "image/bmp")
    yield "tiff of nothing", raw(b"II*\0\xff\xff\xff\xff", "image/tiff")
    yield "too large", raw(good + bytes(300_000))
    for kind in ("text/plain", "application/xml", "video/mp4", "a/b", "\x7f", "multipart/mixed", "application/pdf"):
        yield f"content type {kind!r}", raw(good, kind)
    yield "url-encoded", raw(b"image=abc&top=3", "application/x-www-form-urlencoded")


def forms() -> Iterator[tuple[str, dict[str, Any]]]:
    good, end = png(1), b"--x--\r\n"
    yield "form without boundary", raw(part("image", good) + end, "multipart/form-data")
    yield "form without end", {"content": part("image", good)[:-9], "headers": BOUNDARY}
    yield "form of nothing", {"content": end, "headers": BOUNDARY}
    yield "form with another boundary", {"content": b"--y\r\n\r\n--y--", "headers": BOUNDARY}
    yield "form of noise", {"content": random.Random(0).randbytes(500), "headers": BOUNDARY}
    yield "image as a text field", {"content": part("image", b"abc", file=None) + end, "headers": BOUNDARY}
    yield "empty file", {"content": part("image", b"") + end, "headers": BOUNDARY}
    yield "one of two is none", {"content": part("image", good) + part("image", b"no") + end, "headers": BOUNDARY}
    yield "too many", {"content": part("image", good) * 9 + end, "headers": BOUNDARY}
    yield "far too many", {"content": part("image", good) * 40 + end, "headers": BOUNDARY}
    yield "a field too long", {"content": part("top", b"1" * 70_000, file=None) + end, "headers": BOUNDARY}
    yield "300 fields", {"content": part("a", b"1", file=None) * 300 + end, "headers": BOUNDARY}
    yield "part without name", {"content": b"--x\r\n\r\nabc\r\n" + end, "headers": BOUNDARY}
    yield "header without end", {"content": b"--x\r\nContent-Disposition: " + b"a" * 20_000, "headers": BOUNDARY}
    yield "many headers", {"content": b"--x\r\n" + b"a: b\r\n" * 500 + b"\r\n\r\n" + end, "headers": BOUNDARY}
    yield "file name with markup", {"content": part("image", b"no", file="<b>\u202e</b>") + end, "headers": BOUNDARY}


def jsons() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, text in {
        "json cut off": '{"images": ["',
        "json of nothing": "",
        "a list": "[1, 2]",
        "a text": '"images"',
        "null": "null",
        "NaN": '{"images": [], "top": NaN}',
        "deep": "[" * 100_000,
        "deep objects": '{"a":' * 20_000,
        "a number too long": '{"images": [], "top": ' + "9" * 5000 + "}",
        "not utf-8": b'{"images": ["\xff\xfe"]}'.decode("latin-1"),
    }.items():
        yield name, {"content": text.encode("latin-1"), "headers": JSON}
    for name, value in {
        "no images": {},
        "images empty": {"images": []},
        "images a text": {"images": TEXT},
        "images null": {"images": None},
        "images of numbers": {"images": [1]},
        "images of objects": {"images": [{"image": TEXT}]},
        "image a list": {"image": [TEXT]},
        "not base64": {"images": ["§§§"]},
        "base64 of text": {"images": [base64.b64encode(b"hello").decode()]},
        "base64 cut off": {"images": [TEXT[:-3]]},
        "empty base64": {"images": [""]},
        "an address": {"images": ["http://169.254.169.254/latest/meta-data"]},
        "a file": {"images": ["file:///etc/passwd"]},
        "a path": {"images": ["/etc/passwd"]},
        "data address of text": {"images": ["data:text/html,<script>"]},
        "too many images": {"images": [TEXT] * 9},
        "lone surrogate": {"images": ["\ud800"]},
    }.items():
        yield name, body(value)
    yield "json as text", raw(json.dumps({"images": [TEXT]}).encode(), "text/json")


def options() -> Iterator[tuple[str, str, dict[str, Any]]]:
    good = png(1)
    for top in ("0", "-1", "1001", "many", "1.5", "", "1e9", "9" * 400, "true", "١٢٣x", "%00", "null"):
        yield f"top {top[:9]!r}", f"/search?top={top}", raw(good)
    yield "misspelt option", "/search?topk=3", raw(good)
    yield "option of another address", "/features?top=3", raw(good)
    yield "top a list", "/search", body({"images": [TEXT], "top": [1]})
    yield "top an object", "/search", body({"images": [TEXT], "top": {}})
    yield "top too large a number", "/search", body({"images": [TEXT], "top": 10**30})
    for name, value in {
        "no label": {},
        "empty label": {"label": ""},
        "blank label": {"label": " \t "},
        "label of two lines": {"label": "a\nb"},
        "label that turns the text round": {"label": "a\u202eb"},
        "label with an escape": {"label": "\x1b[31m"},
        "label with a lone surrogate": {"label": "\udc80"},
        "label too long": {"label": "a" * 301},
        "label a number": {"label": 7},
        "label null and no labels": {"label": None},
        "label and labels": {"label": "a", "labels": ["b"]},
        "too few labels": {"labels": []},
        "too many labels": {"labels": ["a", "b"]},
        "labels a text": {"labels": "a"},
        "misspelt": {"lable": "a"},
    }.items():
        yield name, "/add", body({"images": [TEXT], **value})


def removals() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in {
        "nothing named": {},
        "empty lists": {"ids": [], "labels": []},
        "not there": {"ids": [10**9]},
        "negative": {"ids": [-1]},
        "too large an id": {"ids": [2**63]},
        "far too large": {"ids": [10**40]},
        "text": {"ids": ["a"]},
        "fraction": {"ids": [1.5]},
        "one number": {"ids": 1},
        "unknown label": {"labels": ["nothing"]},
        "surrogate": {"labels": ["\ud800"]},
        "misspelt": {"id": [1]},
        "everything": {"labels": [f"thing {n}" for n in range(5)]},
    }.items():
        yield name, body(value)
    yield "no json", raw(b"ids=1", "text/plain")
    yield "json cut off", {"content": b'{"ids": [1', "headers": JSON}
    yield "deep", {"content": b'{"ids":' + b"[" * 100_000, "headers": JSON}


def gets() -> Iterator[str]:
    yield from ("/nothing", "/search", "/add", "/items/1", "/items/-1/image", "/items/99/image")
    yield from ("/items/a/image", f"/items/{2**63}/image", f"/items/{10**50}/image", "/items/1/image?size=0")
    yield from ("/items/1/image?size=100000", "/items/1/image?size=a", "/items?limit=0", "/items?limit=1001")
    yield from ("/items?offset=-1", f"/items?offset={10**20}", "/items?limit=x", f"/items?text={'a' * 301}")
    yield from (f"/labels?text={'a' * 301}", "/labels?limit=-1", "/../../etc/passwd", "/items/%2e%2e/image", "/docs")
    yield from ("/%00", "/page.html", "/.git/config")


def paddlex() -> Iterator[tuple[str, str, dict[str, Any]]]:
    pair = {"image": TEXT, "label": "a"}
    for name, address, value in (
        ("no image", "/shitu-infer", {}),
        ("image null", "/shitu-infer", {"image": None}),
        ("address", "/shitu-infer", {"image": "http://localhost:1/a.png"}),
        ("not base64", "/shitu-infer", {"image": "§"}),
        ("topk 0", "/shitu-infer", {"image": TEXT, "topk": 0}),
        ("topk text", "/shitu-infer", {"image": TEXT, "topk": "five"}),
        ("topk too large", "/shitu-infer", {"image": TEXT, "topk": 10**9}),
        ("key unknown", "/shitu-infer", {"image": TEXT, "indexKey": "0" * 8}),
        ("key a path", "/shitu-infer", {"image": TEXT, "indexKey": "../../index"}),
        ("key a number", "/shitu-infer", {"image": TEXT, "indexKey": 5}),
        ("key with a null byte", "/shitu-infer", {"image": TEXT, "indexKey": "\0"}),
        ("no pairs", "/shitu-index-build", {}),
        ("empty pairs", "/shitu-index-build", {"imageLabelPairs": []}),
        ("pairs without label", "/shitu-index-build", {"imageLabelPairs": [{"image": TEXT}]}),
        ("pairs of texts", "/shitu-index-build", {"imageLabelPairs": ["a"]}),
        ("one bad image", "/shitu-index-build", {"imageLabelPairs": [pair, {"image": "AAAA", "label": "b"}]}),
        ("too many pairs", "/shitu-index-build", {"imageLabelPairs": [pair] * 9}),
        ("label of control characters", "/shitu-index-build", {"imageLabelPairs": [{**pair, "label": "\0"}]}),
        ("add without key", "/shitu-index-add", {"imageLabelPairs": [pair]}),
        ("add to an unknown key", "/shitu-index-add", {"imageLabelPairs": [pair], "indexKey": "x"}),
        ("remove without ids", "/shitu-index-remove", {"indexKey": "default"}),
        ("remove a text", "/shitu-index-remove", {"ids": ["x"], "indexKey": "default"}),
        ("remove from an unknown key", "/shitu-index-remove", {"ids": [1], "indexKey": "x"}),
    ):
        yield name, address, body(value)
    for address in PADDLEX:
        yield "no json", address, raw(b"{", "application/json")
        yield "bytes", address, raw(png(1))


def kinds() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(name, method, address, arguments) of each request."""
    for name, arguments in (*images(), *forms(), *jsons()):
        for address in ("/search", "/add?label=a"):
            yield name, "POST", address, arguments
    for name, address, arguments in options():
        yield name, "POST", address, arguments
    for name, arguments in removals():
        yield name, "POST", "/remove", arguments
    for name, address, arguments in paddlex():
        yield name, "POST", address, arguments
    for address in gets():
        yield "get", "GET", address, {}
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        yield "method", method, "/search", {}
    yield "method", "POST", "/", raw(png(1))
    yield "method", "POST", "/metrics", {}
    yield "length that lies", "POST", "/search", {"content": b"", "headers": {"Content-Length": "9" * 30}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_server(tmp_path_factory.mktemp("served"), body=200_000, images=8)
    yield server
    server.client.__exit__(None, None, None)


def check_refused(answer: Any, address: str) -> None:
    """The answer is a refusal in words, in the form of its address, and tells nothing of the inside."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert "Traceback" not in answer.text and 'File "' not in answer.text and "site-packages" not in answer.text
    if answer.request.method != "HEAD":
        told = answer.json()
        if address in PADDLEX:
            assert told["errorCode"] == answer.status_code and told["errorMsg"] and told["logId"]
        else:
            assert told["error"]["message"] and isinstance(told["error"]["details"], list)


def test_bad_requests(server: Server) -> None:
    requests = list(kinds())
    assert len({(name, address) for name, _, address, _ in requests}) > 200
    wrong = []
    for name, method, address, arguments in requests:
        try:
            check_refused(server.client.request(method, address, **arguments), address.partition("?")[0])
        except AssertionError as error:
            wrong.append(f"{name}: {method} {address}: {error}")
    assert not wrong, "\n".join(wrong)
    assert server.desk.count() == 15 and server.desk.batcher.waiting == 0
    assert server.search(png(2, 5))["results"][0]["answer"]["label"] == "thing 2"
    assert not list((server.folder / "served").rglob("*.png")) and not list(server.folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    "name, limit, status",
    [("too large", "body", 413), ("too many pixels", "pixels", 422), ("too many", "images", 422)],
)
def test_each_limit_has_its_status(server: Server, name: str, limit: str, status: int) -> None:
    arguments = dict([*images(), *forms()])[name]
    assert server.client.post("/search", **arguments).status_code == status


@cases(60)
@given(
    address=st.sampled_from((*POSTS, *PADDLEX)),
    kind=st.sampled_from(["", "image/png", "application/json", "multipart/form-data; boundary=x", "text/plain"]),
    content=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.just(TEXT),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["images", "image", "top", "label", "labels", "ids", "indexKey", "imageLabelPairs"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_body(server: Server, address: str, kind: str, content: bytes) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = server.client.post(address, content=content, headers=headers)
    assert answer.status_code < 500, answer.text
    assert server.desk.batcher.waiting == 0


@pytest.mark.fuzz
def test_damaged_images(server: Server) -> None:
    for data in mutations(png(1), at_least(100)):
        answer = server.client.post("/search", content=data, headers={"Content-Type": "image/png"})
        assert answer.status_code in (200, 422, 413), answer.text


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_a_network_without_a_feature(server: Server, value: float) -> None:
    network: Any = server.desk.state.extractor
    network.compute = lambda images: np.full((len(images), 48), value, np.float32)
    try:
        answer = server.client.post("/add?label=a", **raw(png(1)))
    finally:
        del network.compute
        network.compute = network._compute
    assert answer.status_code == 422 and "no feature for it" in answer.text and server.desk.count() == 15


def test_an_error_that_nobody_foresaw(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    network: Any = server.desk.state.extractor

    def broken(images: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("secret detail")

    network.compute = broken
    try:
        answer = server.client.post("/search", **raw(png(1)))
    finally:
        network.compute = network._compute
    assert answer.status_code == 500 and "secret" not in answer.text and "log of the server" in answer.text
    assert "secret detail" in caplog.text  # where the operator finds it
    assert server.client.post("/search", **raw(png(1))).status_code == 200
    assert server.desk.batcher.waiting == 0


def test_paths_of_the_server_stay_hidden(server: Server, tmp_path: Path) -> None:
    answer = server.client.post("/shitu-infer", **body({"image": TEXT, "indexKey": "nothing"}))
    assert str(server.folder) not in answer.text


def test_what_is_wrong_is_said_in_words(server: Server) -> None:
    """What somebody reads who uses curl for the first time."""
    form = {"content-type": "application/x-www-form-urlencoded"}  # what curl --data-binary says of anything
    json_type = {"content-type": "application/json"}
    file = {"image": ("a.png", png(1))}
    for method, address, arguments, says in (
        ("POST", "/search", {"content": b"", "headers": form}, "there is no image in the request"),
        ("POST", "/search", {"content": b"no image", "headers": form}, "is not an image"),
        ("POST", "/search", {"files": {"image": ("a.png", b"no image")}}, "this image cannot be used"),
        ("POST", "/search?tpo=3", {"files": file}, "tpo: there is no such option here, only top"),
        ("POST", "/features?top=3", {"files": file}, "top: this address takes no options"),
        ("POST", "/remove", {"content": b"x", "headers": form}, "with the header Content-Type: application/json"),
        ("POST", "/remove", {"json": [1]}, "the body: expected a JSON object"),
        ("POST", "/remove", {"content": b"x", "headers": json_type}, "the body: it is not valid JSON"),
        ("POST", "/remove", {}, "the body: it is empty"),
        ("POST", "/remove", {"json": {"labels": [""]}}, "label (none)"),
        ("POST", "/search", {"json": {"image": "-_-_"}}, "image 1: not base64"),
        ("POST", "/remove", {"json": {"ids": []}}, "nothing was named"),
        ("GET", "/items?limit=x", {}, "limit: "),
        ("GET", "/items?lable=x", {}, "lable: there is no such option here, only label, text, offset, limit"),
        ("GET", "/map?size=9", {}, "size: this address takes no options"),
        ("POST", "/remove", {"json": {"ids": [True]}}, "ids.0: Input should be a valid integer"),
        ("POST", "/remove", {"json": {"id": [1]}}, "id: there is no such option here, only ids, labels"),
        ("PUT", "/search", {}, "/search takes only POST"),
        ("GET", "/nowhere", {}, "there is nothing at /nowhere"),
    ):
        error = server.client.request(method, address, **arguments).json()["error"]  # type: ignore[arg-type]
        assert says in "\n".join([error["message"], *error["details"]]), error
        assert error["hint"] or error["details"], error


def test_what_watches_servers_may_ask_with_head(server: Server) -> None:
    for address in ("/health", "/ready", "/", "/stats"):
        answer = server.client.head(address)
        assert answer.status_code == 200 and answer.content == b"" and int(answer.headers["content-length"]) > 10
    assert server.client.head("/search").status_code == 405 and server.client.head("/nowhere").status_code == 404
    assert 'method="HEAD"' in server.client.get("/metrics").text


def test_what_is_given_twice_is_not_passed_over(server: Server) -> None:
    """The last one counted: of two photos with a label each, both got the second."""
    file, text = {"image": ("a.png", png(1))}, {"image": TEXT}
    for method, address, arguments, says in (
        ("POST", "/search?top=1&top=2", {"files": file}, "top: given more than once"),
        ("POST", "/search?top=1", {"files": file, "data": {"top": "2"}}, "top: given more than once"),
        ("POST", "/search?top=1", {"json": {**text, "top": 2}}, "top: given more than once"),
        ("POST", "/add", {"files": file, "data": {"label": ["a", "b"]}}, "more than once; labels takes one for each"),
        ("POST", "/add?labels=a", {"files": [*file.items()] * 2}, "1 label for 2 images"),
        ("POST", "/search", {"json": {**text, "images": [TEXT]}}, "either image or images"),
        ("GET", "/items?label=a&label=b", {}, "label: given more than once"),
    ):
        answer = server.client.request(method, address, **arguments)  # type: ignore[arg-type]
        error = answer.json()["error"]
        assert answer.status_code == 422 and says in "\n".join([error["message"], *error["details"]]), error
        assert error["hint"]
    both = [("image", ("a.png", png(1))), ("image", ("b.png", png(2)))]
    same = [("image", ("a.png", png(1))), ("image", ("again.png", png(1)))]
    error = server.client.post("/add", files=same, data={"labels": ["a", "b"]}).json()["error"]
    assert error["message"] == "the same photo has two labels" and error["details"] == ["again.png: a, b"]
    added = server.client.post("/add", files=both, data={"labels": ["a", "b"]}).json()["added"]
    assert [item["label"] for item in added] == ["a", "b"]
    assert server.client.post("/remove", json={"ids": [item["id"] for item in added]}).status_code == 200
