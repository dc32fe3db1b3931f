"""The JSON that goes in and out, as the OpenAPI page shows it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import to_json

from shitu_cli.reporting import HIDDEN, visible_json

MOST = 1000  # neighbours of an answer, items of a page
LABEL_CHARACTERS = 300


def _plain_label(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("a label needs at least one visible character")
    if HIDDEN.search(text) or "\n" in text or "\t" in text:
        raise ValueError("a label must be one line without control characters")
    return text


Pixel = Annotated[float, Field(ge=0, le=1 << 20)]
Box = Annotated[
    list[Pixel], Field(min_length=4, max_length=4, description="Left, top, right and bottom in pixels of the image.")
]
Label = Annotated[str, Field(max_length=LABEL_CHARACTERS), AfterValidator(_plain_label)]
Id = Annotated[int, Field(ge=0, lt=1 << 63, strict=True)]  # true is no id: 1 would be removed


class JSONReply(JSONResponse):
    """An answer in JSON, safe to show; pydantic writes it several times as fast as Python's own encoder does."""

    def render(self, content: Any) -> bytes:
        body = to_json(content, inf_nan_mode="null")
        if body.isascii() and b"\x7f" not in body:  # so is most, and vectors are long
            return body
        return visible_json(body.decode()).encode()


class Options(BaseModel):
    """What a request says beside its images; a misspelt name is refused."""

    model_config = ConfigDict(extra="forbid")


class NoOptions(Options):
    """Nothing to choose."""


class SearchOptions(Options):
    top: Annotated[int, Field(ge=1, le=MOST, description="How many neighbours to return for each image.")] = 5


class AddOptions(Options):
    label: Annotated[Label | None, Field(description="The label of all images.")] = None
    labels: Annotated[
        list[Label] | None, Field(description="One label for each image, in their order, in place of `label`.")
    ] = None
    correct: Annotated[bool, Field(description="Remove items of the same image with other labels.")] = False
    box: Annotated[Box | None, Field(description="Add this part of each image; as text: 10,20,110,220.")] = None

    @field_validator("box", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take a box as forms and addresses write it."""
        return value.split(",") if isinstance(value, str) else value

    @field_validator("box")
    @classmethod
    def _not_empty(cls, box: list[float] | None) -> list[float] | None:
        if box is not None and not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError("the left side of a box must be left of its right side, and its top above its bottom")
        return box


class RemoveRequest(Options):
    ids: list[Id] = Field(default_factory=list, examples=[[12, 13]])
    labels: Annotated[list[str], Field(description="Remove every item with one of these labels.")] = Field(
        default_factory=list
    )


class Verdict(BaseModel):
    label: Annotated[str | None, Field(description="What the image shows; null: unknown.")]
    unknown: bool
    nearest: Annotated[str | None, Field(description="The label that wins the votes, known or not.")]
    score: Annotated[float, Field(description="The highest cosine of the images of `nearest`.")]
    confidence: Annotated[float, Field(description="The share of the votes that `nearest` got.")]
    margin: Annotated[float, Field(description="How much more similar `nearest` is than the next label.")]
    agreeing: Annotated[int, Field(description="How many of the voters, the nearest images, are of `nearest`.")]
    voters: int


class Item(BaseModel):
    id: int
    label: str
    path: str


class Match(Item):
    score: Annotated[float, Field(description="Cosine similarity.")]


class Thing(BaseModel):
    answer: Verdict
    matches: list[Match]
    box: Annotated[list[float] | None, Field(description="Where the thing is: left, top, right, bottom in pixels.")] = (
        None
    )
    box_score: Annotated[
        float | None, Field(description="How sure the detector is, from 0 to 1; null: the whole image was used.")
    ] = None


class Result(Thing):
    objects: Annotated[
        list[Thing] | None, Field(description="With a detector: the things in the image, the best first.")
    ] = None


class SearchReply(BaseModel):
    threshold: Annotated[
        float | None, Field(description="Score below which an image is unknown; null: no image is unknown.")
    ]
    results: Annotated[list[Result], Field(description="One for each image, in order.")]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "threshold": 0.62,
                "results": [
                    {
                        "answer": {
                            "label": "oat milk",
                            "unknown": False,
                            "nearest": "oat milk",
                            "score": 0.93,
                            "confidence": 0.98,
                            "margin": 0.21,
                            "agreeing": 5,
                            "voters": 5,
                        },
                        "matches": [{"id": 12, "label": "oat milk", "path": "gallery/oat/1.jpg", "score": 0.93}],
                    }
                ],
            }
        }
    )


class FeaturesReply(BaseModel):
    model: Annotated[
        str, Field(description="Fingerprint of the model; only features of the same model can be compared.")
    ]
    features: Annotated[list[list[float]], Field(description="Unit vectors, one for each image.")]


class AddReply(BaseModel):
    added: Annotated[
        list[Item], Field(description="Items that were added; they are stored on disk by the time of this answer.")
    ]
    replaced: Annotated[int, Field(description="Photos that were in the index already.")]
    removed: Annotated[list[Item], Field(description="Items that were removed in return (`correct`).")]
    count: Annotated[int, Field(description="Items in the index now.")]


class RemoveReply(BaseModel):
    removed: list[Item]
    count: int


class ItemsReply(BaseModel):
    count: Annotated[int, Field(description="Items that match, on all pages.")]
    items: list[Item]


class LabelCount(BaseModel):
    label: str
    count: int


class LabelsReply(BaseModel):
    count: int
    labels: list[LabelCount]


class StatsReply(BaseModel):
    version: str
    items: int
    labels: int
    kind: str | None
    feature_size: int
    model: str
    engine: str
    detector: Annotated[
        str | None, Field(description="The detector that finds things in an image; null: images are used whole.")
    ]
    threshold: float | None
    threshold_source: Annotated[str, Field(description="Where the threshold is from: measured, given or none.")]
    threshold_meaning: Annotated[
        list[str], Field(description="What the threshold does to photos of known and unknown things.")
    ]
    read_only: bool
    waiting: Annotated[int, Field(description="Images that wait for the network.")]
    remark: Annotated[
        str, Field(description="Why the server does not use the model or index that is on disk; usually empty.")
    ]


class Point(BaseModel):
    id: int
    label: str
    x: float
    y: float


class Confusion(BaseModel):
    label: str
    other: str
    count: Annotated[
        int, Field(description="How many images of either label have one of the other as their most similar image.")
    ]


class MapReply(BaseModel):
    points: list[Point]
    explained: Annotated[
        float, Field(description="The share of the variance of the features that the two dimensions show.")
    ]
    confusions: list[Confusion]
    total: Annotated[int, Field(description="Items in the index; the map shows at most 2,000.")]


class Problem(BaseModel):
    message: str
    details: list[str]
    hint: str | None


class ErrorReply(BaseModel):
    error: Problem


class Health(BaseModel):
    status: str
