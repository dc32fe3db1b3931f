"""What the OpenAPI description says of requests that FastAPI does not read itself, with examples."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from shitu_cli.service import schemas

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"  # 1 x 1
_TEXTS = {
    400: "The request is damaged.",
    401: "The API key is missing or wrong.",
    403: "Not allowed from this address, or on a server that is read-only.",
    413: "The request is larger than the server takes.",
    422: "The content of the request cannot be used; `details` names each problem.",
    429: "Too many images or changes are waiting: `Retry-After` says in how many seconds to try again.",
    503: "The server cannot answer now: `Retry-After` says in how many seconds to try again.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorReply, "description": text} for status, text in _TEXTS.items()
}


def _images(
    reply: type[BaseModel], options: type[BaseModel], example: dict[str, Any], **more: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a route that takes images in any of the three ways; `more` are responses."""
    fields = options.model_json_schema()["properties"]
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {"image": {"type": "array", "items": file}, **fields},
        "required": ["image"],
    }
    text = {"type": "array", "items": {"type": "string", "format": "byte"}, "description": "Images in base64."}
    plain = {"type": "object", "properties": {"images": text, **fields}, "required": ["images"]}
    query = [
        {"name": name, "in": "query", "required": False, "schema": {k: v for k, v in field.items() if k != "title"}}
        for name, field in fields.items()
    ]
    content = {
        "multipart/form-data": {"schema": form},
        "image/*": {"schema": file},
        "application/json": {"schema": plain, "example": {"images": [_PIXEL], **example}},
    }
    extra = {"parameters": query, "requestBody": {"required": True, "content": content}}
    return {"response_model": reply, "openapi_extra": extra, "responses": {**more}}


search = _images(schemas.SearchReply, schemas.SearchOptions, {"top": 5})
features = _images(schemas.FeaturesReply, schemas.NoOptions, {})
add = _images(schemas.AddReply, schemas.AddOptions, {"label": "oat milk"})
