"""`shitu serve`: the search over HTTP, and a page to drop a photo on."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shitu_cli import MAX_PIXELS
from shitu_cli.cli import opening, options
from shitu_cli.cli.console import Console
from shitu_cli.cli.options import argument, option
from shitu_cli.cli.session import Session
from shitu_cli.errors import Command, EnvironmentProblem, UsageError, pip_install
from shitu_cli.reporting import counted
from shitu_cli.workspace import Workspace

if TYPE_CHECKING:
    from shitu_cli.features.extractor import Extractor
    from shitu_cli.service.desk import Desk
    from shitu_cli.service.gallery import Gallery
    from shitu_cli.service.live import Live
    from shitu_cli.service.settings import Limits
    from shitu_cli.service.views import View
    from shitu_cli.steps.measured_threshold import Threshold

NETWORK, ANSWER, LIMITS = "Network", "Answers and changes", "Limits"
MODULES = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")  # that only this command needs


def serve(
    context: typer.Context,
    model_dir: Annotated[
        Path | None,
        argument("Exported directory, ONNX file or checkpoint; by default the model of the index."),
    ] = None,
    index_dir: Annotated[Path | None, argument("Directory of the index; by default index/.")] = None,
    host: Annotated[
        str, option(NETWORK, "Address to listen on; any but this machine's own (127.0.0.1) needs an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, option(NETWORK, "Port to listen on; 0 takes a free one.", low=0, high=65535)] = 8000,
    api_key_file: Annotated[
        Path | None, option(NETWORK, "File with the API key that requests must carry; or set SHITU_API_KEY.")
    ] = None,
    threshold: Annotated[
        str | None,
        option(
            ANSWER,
            "Lowest score of a known image: a number, auto or none; by default auto, what the last evaluation of this "
            "model measured, if there is one.",
        ),
    ] = None,
    new: Annotated[
        bool, option(ANSWER, "Start without an index; the first photo that is added creates it.", "--new")
    ] = False,
    read_only: Annotated[
        bool, option(ANSWER, "Refuse all requests that would change the index.", "--read-only")
    ] = False,
    keep: Annotated[
        Path | None, option(ANSWER, "Folder for the photos that are added; by default served/ beside the index.")
    ] = None,
    max_request_mb: Annotated[int, option(LIMITS, "Largest request in MB.", low=1, high=4096)] = 64,
    max_pixels: Annotated[int, option(LIMITS, "Largest image in pixels.", low=1, high=MAX_PIXELS)] = 64_000_000,
    max_images: Annotated[int, option(LIMITS, "Largest number of images in one request.", low=1, high=10_000)] = 64,
    max_queue: Annotated[
        int, option(LIMITS, "Largest number of images that wait at once.", low=1, high=options.MANY)
    ] = 512,
    detector: options.DetectorOption = None,
    detector_threshold: options.DetectorThresholdOption = None,
    max_boxes: options.MaxBoxesOption = None,
    index: options.IndexOption = None,
    store: options.StoreOption = None,
    collection: options.CollectionOption = None,
    model: options.ModelOption = None,
    pretrained: options.PretrainedOption = None,
    workspace: options.WorkspaceOption = None,
) -> None:
    """Answer searches over HTTP, and show a page to drop a photo on: this is X, or unknown.

    The page is at /, the description of all addresses at /openapi.json, and docs/serve.md explains both.
    """
    require_packages()
    from shitu_cli.service.app import create_app
    from shitu_cli.service.desk import Desk
    from shitu_cli.service.metrics import Metrics
    from shitu_cli.service.server import address_of, is_loopback, open_socket, run
    from shitu_cli.service.settings import Limits, Settings
    from shitu_cli.steps.gallery import stored_path

    session = Session.of(context)
    console = session.console
    chosen = opening.chosen_model(session, _either(model_dir, model, "MODEL_DIR", "--model"), pretrained)
    folder = _either(index_dir, index, "INDEX_DIR", "--index")
    if new and read_only:
        raise UsageError(
            "--new and --read-only: a new index is created by the first photo that is added, but a read-only server "
            "takes none",
            hint="leave out --new if the index exists; if it does not, leave out --read-only until it has photos",
        )
    if new and store is not None:
        raise UsageError(
            "--new creates only an index in a directory, not one in a --store",
            hint=["create the index first: ", Command("index build", "./photos")],
        )
    if keep is not None and keep.exists() and not keep.is_dir():
        raise UsageError(f"--keep {keep} is a file", hint="name a folder for the photos that are added")
    limits = Limits(max_request_mb << 20, max_pixels, max_images, max(max_queue, max_images))
    with open_socket(host, port) as listening:
        key = _key(api_key_file)
        if not key and not is_loopback(listening):
            raise UsageError(
                f"--host {host}: whoever reaches this machine could change the index, so an API key is needed",
                hint="openssl rand -hex 24 > key.txt, then add --api-key-file key.txt",
            )
        finder = opening.open_detector(session, detector, detector_threshold, max_boxes)
        space = opening.open_workspace(session, optional=True)
        gallery = _open_gallery(space, folder, store, collection, new, limits)
        threshold_of = _threshold(threshold, space, gallery)
        live = _open_live(session, space, gallery, chosen, threshold_of, must_be_measured=threshold == "auto")
        kept = keep or (space.root if store is not None else Path(os.path.abspath(gallery.place)).parent) / "served"
        settings = Settings(kept, space.root, key, read_only, limits)
        desk = Desk(live, settings, Metrics(), lambda path: stored_path(space, path), finder)

        def say_so() -> None:
            _announce(console, desk, address_of(listening), is_chosen=threshold is not None)

        run(create_app(desk), listening, quiet=console.quiet, started=say_so)
    console.info("stopped")


def _announce(console: Console, desk: Desk, address: str, *, is_chosen: bool) -> None:
    """Say where the server answers and what it calls unknown; `is_chosen` if the user has set the threshold."""
    state = desk.state
    limit = state.threshold.value
    images, labels = counted(desk.count(), "image"), counted(len(state.view.labels()), "label")
    console.info(f"serving {images} of {labels} at {address} (Ctrl-C stops)")
    if limit is not None:
        console.info("; ".join([f"below {limit:g} an image is unknown", *state.threshold.meaning]))
    elif not is_chosen:
        console.warn(
            [
                "no threshold has been measured for this model, so no image is called unknown: ",
                Command("evaluate"),
                " measures one, --threshold 0.6 sets one",
            ]
        )


def require_packages() -> None:
    """Raise EnvironmentProblem if a package that only this command needs is missing."""
    missing = [module for module in MODULES if importlib.util.find_spec(module) is None]
    if missing:
        raise EnvironmentProblem(
            f"shitu serve needs packages that are missing: {', '.join(missing)}", hint=pip_install("serve")
        )


def _either(argument: Path | None, option: Path | None, argument_name: str, option_name: str) -> Path | None:
    if argument is not None and option is not None:
        raise UsageError(f"{argument_name} and {option_name} mean the same", hint="give one of them")
    return argument if argument is not None else option


def _key(file: Path | None) -> str:
    from shitu_cli.service.settings import KEY_VARIABLE, checked_key, read_key

    if file is not None:
        return read_key(file)
    text = os.environ.get(KEY_VARIABLE, "")
    return checked_key(text, KEY_VARIABLE) if text else ""


def _open_gallery(
    space: Workspace, folder: Path | None, store: str | None, collection: str | None, new: bool, limits: Limits
) -> Gallery:
    """Return the gallery that the options name; the workspace's own directory when they name none."""
    from shitu_cli.service.gallery import FileGallery
    from shitu_cli.service.shared_gallery import SharedGallery

    target = opening.chosen_index(space, folder, store, collection)
    if store is not None:
        return SharedGallery(target)
    return FileGallery(folder or space.index_dir, create=new, most_waiting=limits.changes)


def _open_live(
    session: Session,
    space: Workspace,
    gallery: Gallery,
    chosen: Path | None,
    threshold_of: Callable[[Extractor, View], Threshold],
    *,
    must_be_measured: bool,
) -> Live:
    """Return the model and the index, opened; the index says with which model it was built."""
    from shitu_cli.config.places import Places
    from shitu_cli.service.live import Live
    from shitu_cli.steps.models import model_of_index, open_extractor

    manifest = gallery.latest().manifest
    if manifest is None and chosen is None and not space.config_path.is_file():
        raise UsageError(
            "--new: no model is named, and there is no workspace that has one",
            hint="name one: --model inference, or --pretrained efficientnet-lite0",
        )
    recorded = manifest.model_path if manifest is not None else ""
    config = opening.config_or_none(session, chosen or (Path(recorded) if recorded else None))
    model = model_of_index(Places.of(config) if config else None, chosen, recorded, gallery.place)
    live = Live(lambda: open_extractor(config, model, reporter=session.console), gallery, threshold_of)
    if must_be_measured and live.state.threshold.value is None:
        raise UsageError("--threshold auto: no evaluation has measured one for this model", hint=Command("evaluate"))
    return live


def _threshold(text: str | None, space: Workspace, gallery: Gallery) -> Callable[[Extractor, View], Threshold]:
    """Return the function that yields the threshold of a model: the one given, or the one measured."""
    from shitu_cli.service.thresholds import NONE, MeasuredThreshold
    from shitu_cli.steps.search import AUTO, own_threshold

    if text is None or text == AUTO:
        return MeasuredThreshold(space.reports_dir)
    if text == "none":
        return lambda extractor, view: NONE
    manifest = gallery.latest().manifest
    given = own_threshold(text, "flat" if manifest is None else manifest.kind, "auto or none")
    return lambda extractor, view: given
