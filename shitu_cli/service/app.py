"""The application: the routes of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from shitu_cli import __version__
from shitu_cli.errors import ShituError
from shitu_cli.features.detection.areas import Cut
from shitu_cli.index.store import Item
from shitu_cli.reporting import counted
from shitu_cli.service import documents, metrics, paddlex, page, schemas
from shitu_cli.service.batching import AreaChoice, Image
from shitu_cli.service.desk import Desk
from shitu_cli.service.gallery import Removal
from shitu_cli.service.guard import Guard
from shitu_cli.service.refusals import (
    CONFLICT,
    DESCRIPTION,
    NOT_ALLOWED,
    NOT_FOUND,
    UNAVAILABLE,
    UNPROCESSABLE,
    Refusal,
    malformed,
    refusal_of,
)
from shitu_cli.service.schemas import JSONReply
from shitu_cli.service.uploads import read_images, refuse_repeated
from shitu_cli.service.views import count_of

Text = Annotated[str, Query(max_length=schemas.LABEL_CHARACTERS)]
Offset = Annotated[int, Query(ge=0, lt=1 << 40)]
Limit = Annotated[int, Query(ge=1, le=schemas.MOST)]
Size = Annotated[int, Query(ge=16, le=2048, description="The longer side in pixels.")]
THUMBNAIL = 256
ONE_EACH = "labels: one for each image, in their order; or label, the same for all"


def create_app(desk: Desk) -> FastAPI:
    """Return the application that answers from a desk, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="shitu",
        version=__version__,
        summary="Says what images show, by comparing them with an index of known images.",
        docs_url=None,  # those pages load scripts of other sites
        redoc_url=None,
        lifespan=lifespan,
        responses=documents.ERRORS,
    )
    app.add_middleware(Guard, settings=desk.settings, metrics=desk.metrics, body_of=_body_of)
    _handle_errors(app)
    _add_recognition(app, desk)
    _add_contents(app, desk)
    _add_operation(app, desk)
    paddlex.add_routes(app, desk)
    page.add_routes(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    """Let every error leave in the same form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONReply:
        return _refused(request, refusal)

    @app.exception_handler(ShituError)
    async def failed(request: Request, error: ShituError) -> JSONReply:
        return _refused(request, refusal_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONReply:
        problems = [{**problem, "loc": problem["loc"][1:]} for problem in error.errors()]  # "body" or "query" is first
        bodies = request.scope["route"].dependant.body_params
        known = [name for body in bodies for name in getattr(body.field_info.annotation, "model_fields", ())]
        return _refused(request, malformed(problems, known))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONReply:
        path, allowed = request.url.path[:80], (error.headers or {}).get("Allow")
        message, hint = str(error.detail), None
        if error.status_code in (NOT_FOUND, NOT_ALLOWED):
            message = f"there is nothing at {path}" if allowed is None else f"{path} takes only {allowed}"
            hint = DESCRIPTION
        return _refused(request, Refusal(error.status_code, message, hint=hint), error.headers)


def _refused(request: Request, refusal: Refusal, headers: Any = None) -> JSONReply:
    body = _body_of(request.url.path, refusal)
    return JSONReply(body, refusal.status, headers={**(headers or {}), **refusal.headers})


def _body_of(path: str, refusal: Refusal) -> dict[str, Any]:
    return paddlex.refusal_body(refusal) if path in paddlex.ADDRESSES else refusal.body()


def _add_recognition(app: FastAPI, desk: Desk) -> None:
    limits = desk.settings.limits

    @app.post("/search", **documents.search)
    async def search(request: Request) -> JSONReply:
        """Say what each image shows, or that it is unknown, with the nearest images of the index."""
        images, options = await read_images(request, schemas.SearchOptions, limits)
        reply = await desk.reply(images, options.top)
        results = [answer.to_json() for answer in reply.answers]
        return JSONReply({"threshold": reply.state.threshold.value, "results": results})

    @app.post("/features", **documents.features)
    async def features(request: Request) -> JSONReply:
        """Return the feature of each image, or of the surest thing in it: a vector of length one."""
        images, _ = await read_images(request, schemas.NoOptions, limits)
        reply = await desk.reply(images, choice=AreaChoice(Cut.BODY))
        return JSONReply({"model": reply.state.extractor.fingerprint, "features": reply.features.tolist()})

    @app.post("/add", **documents.add)
    async def add(request: Request) -> JSONReply:
        """Add images to the index under a label; a photo that is there already gets the new label."""
        desk.check_writable()
        images, options = await read_images(request, schemas.AddOptions, limits)
        choice = AreaChoice(Cut.BODY, box=None if options.box is None else tuple(options.box))  # type: ignore[arg-type]
        labels = labels_for(options, len(images))
        refuse_two_labels(images, labels)
        view, changed = await desk.add(images, labels, choice=choice, correct=options.correct)
        reply = {"added": _plain(changed.items), "replaced": changed.replaced, "removed": _plain(changed.removed)}
        return JSONReply({**reply, "count": count_of(view)})

    @app.post("/remove", response_model=schemas.RemoveReply)
    async def remove(given: schemas.RemoveRequest) -> JSONReply:
        """Remove items by id or label: all of them, or none if one is not there."""
        desk.check_writable()
        if not given.ids and not given.labels:
            raise Refusal(UNPROCESSABLE, "nothing was named", hint='{"ids": [12]} or {"labels": ["oat milk"]}')
        view, changed = await desk.remove(Removal(given.ids, given.labels))
        return JSONReply({"removed": _plain(changed.items), "count": count_of(view)})


def _add_contents(app: FastAPI, desk: Desk) -> None:
    router = APIRouter(dependencies=[Depends(_refuse_unknown)])

    @router.get("/items", response_model=schemas.ItemsReply)
    async def items(label: Text | None = None, text: Text = "", offset: Offset = 0, limit: Limit = 100) -> JSONReply:
        """List the items of the index, of one label or whose label or path contains a text."""
        matching = await desk.items(label, text, offset, limit)
        return JSONReply({"count": matching.total, "items": [asdict(item) for item in matching.rows]})

    @router.get("/items/{id}/image", responses={200: {"content": {"image/jpeg": {}}}}, response_class=Response)
    async def image(id: int, size: Size = THUMBNAIL) -> Response:
        """Return the image of an item, upright, as a JPEG without metadata."""
        data = await desk.image(checked_id(id), size)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    @router.get("/labels", response_model=schemas.LabelsReply)
    async def labels(text: Text = "", offset: Offset = 0, limit: Limit = 100) -> JSONReply:
        """List the labels of the index with their number of items."""
        matching = await desk.labels(text, offset, limit)
        rows = [{"label": label, "count": count} for label, count in matching.rows]
        return JSONReply({"count": matching.total, "labels": rows})

    @router.get("/map", response_model=schemas.MapReply)
    async def map_of_gallery() -> JSONReply:
        """Return the index in two dimensions (its principal plane), and which labels are confused."""
        drawn = await desk.map()
        if drawn is None:
            raise Refusal(CONFLICT, "there is nothing to draw: this index is empty, or does not return its vectors")
        points = [
            {"id": item.id, "label": item.label, "x": round(x, 5), "y": round(y, 5)}
            for item, (x, y) in zip(drawn.items, drawn.places.tolist(), strict=True)
        ]
        pairs = [{"label": label, "other": other, "count": count} for (label, other), count in drawn.confusions]
        return JSONReply(
            {"points": points, "explained": round(drawn.explained, 4), "confusions": pairs, "total": drawn.total}
        )

    app.include_router(router)


def _refuse_unknown(request: Request) -> None:
    """Raise a Refusal for a misspelt or repeated name in an address: `?lable=oat` would list everything."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    names = [name for name, _ in request.query_params.multi_items()]
    refuse_repeated(name for name in names if names.count(name) > 1)
    problems = [{"loc": (name,), "type": "extra_forbidden", "msg": ""} for name in request.query_params]
    if problems := [problem for problem in problems if problem["loc"][0] not in known]:
        raise malformed(problems, known)


def _add_operation(app: FastAPI, desk: Desk) -> None:
    @app.get("/stats", response_model=schemas.StatsReply)
    async def stats() -> JSONReply:
        """Say what serves: model, index, threshold."""
        state = desk.state
        labels = await desk.labels("", 0, 1)
        manifest = state.view.manifest
        return JSONReply(
            {
                "version": __version__,
                "items": desk.count(),
                "labels": labels.total,
                "kind": None if manifest is None else manifest.kind,
                "feature_size": state.extractor.feature_size,
                "model": state.extractor.fingerprint,
                "engine": state.extractor.engine.description,
                "detector": None if desk.detector is None else str(desk.detector.path),
                "threshold": state.threshold.value,
                "threshold_source": state.threshold.source,
                "threshold_meaning": list(state.threshold.meaning),
                "read_only": desk.settings.read_only,
                "waiting": desk.batcher.waiting,
                "remark": desk.live.remark,
            }
        )

    @app.get("/health", response_model=schemas.Health)
    async def health() -> JSONReply:
        """Say that the server runs (also in the words of PaddleX's serving)."""
        return JSONReply({"status": "ok", **paddlex.healthy()})

    @app.get("/ready", response_model=schemas.Health)
    async def ready() -> JSONReply:
        """Say whether another image would be taken now."""
        if desk.batcher.waiting >= desk.settings.limits.waiting:
            raise Refusal(UNAVAILABLE, "too many images wait", retry_after=1)
        return JSONReply({"status": "ready"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Return counters in the format of Prometheus."""
        return Response(desk.metrics.text(), media_type=metrics.CONTENT_TYPE)


def labels_for(options: schemas.AddOptions, count: int) -> list[str]:
    """Return the label of each of `count` images; a Refusal unless the request says exactly that."""
    if (options.label is None) == (options.labels is None):
        raise Refusal(UNPROCESSABLE, "give either label or labels", hint="curl -F label=NAME -F image=@photo.jpg")
    if options.labels is None:
        return [options.label or ""] * count
    if len(options.labels) != count:
        raise Refusal(
            UNPROCESSABLE, f"{counted(len(options.labels), 'label')} for {counted(count, 'image')}", hint=ONE_EACH
        )
    return options.labels


def refuse_two_labels(images: Sequence[Image], labels: Sequence[str]) -> None:
    """Raise a Refusal for a photo that one request gives two labels: only the last would count."""
    label_of: dict[bytes, str] = {}
    details = []
    for image, label in zip(images, labels, strict=True):
        if (other := label_of.setdefault(image.data, label)) != label:
            details.append(f"{image.name}: {other}, {label}")
    if details:
        raise Refusal(UNPROCESSABLE, "the same photo has two labels", details=details, hint=ONE_EACH)


def checked_id(id: int) -> int:
    """Return an id as an index may have it; a Refusal for any other."""
    if not 0 <= id < 1 << 63:
        raise Refusal(NOT_FOUND, "no index has such an id")
    return id


def _plain(items: Sequence[Item]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]
