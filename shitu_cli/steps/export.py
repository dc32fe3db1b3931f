"""`export`: write the trained network as files for deployment, and prove that they compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shitu_cli.boundary import place_to_write
from shitu_cli.config.arguments import PORTION, require, require_config, require_flags, several
from shitu_cli.config.places import Places, as_given
from shitu_cli.config.schema import Config
from shitu_cli.errors import UsageError
from shitu_cli.inputs import StrPath
from shitu_cli.reporting import Reporter, SilentReporter
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.steps.models import changed_preparation, place_of, readable
from shitu_cli.steps.settings import with_lists

if TYPE_CHECKING:
    from shitu_cli.deployment.run import Exported


def export(
    config: Config | None,
    out: StrPath | None = None,
    *,
    checkpoint: StrPath | None = None,
    pretrained: str | None = None,
    formats: str | Sequence[str] = (),
    normalize: bool = False,
    size: tuple[int, int] | None = None,
    precision: str = "fp32",
    max_recall_drop: float = 0.005,
    paddlex_name: str | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write the network for deployment, run the files on real images, and compare the results with the network's.

    Args:
        config: The result of `load_config`.
        out: The directory to write to; by default the config's Global.save_inference_dir.
        checkpoint: The weights; by default the best checkpoint.
        pretrained: Published weights instead: a name of the catalogue, or NETWORK=FILE. They need no config.
        formats: `pdmodel`, `pir` (inference.json), `onnx`; by default pdmodel, and onnx where possible.
        normalize: Let the exported network normalise features to length one.
        size: Fixed height and width of the input.
        precision: The precision to run the model in: `fp32`, `bf16`, or `auto` for the faster one.
        max_recall_drop: The largest loss of recall@1 at which bf16 is accepted.
        paddlex_name: The name of the model in inference.yml.
        reporter: Receives progress and warnings; by default they are discarded.

    If anything fails, an earlier export stays unchanged. Raises UsageError without weights, ShituError if the files
    compute something else.
    """

    setup_paddle("cpu")
    from shitu_cli.deployment.deploy_config import PADDLEX_NAME
    from shitu_cli.deployment.run import ExportOptions
    from shitu_cli.deployment.run import export as run

    require(PORTION, max_recall_drop=max_recall_drop)
    require_flags(normalize=normalize)
    if size is not None and (isinstance(size, str) or not isinstance(size, Sequence) or len(size) != 2):
        raise UsageError(f"size={size!r}: expected (height, width), such as (224, 224)")
    if config is not None:
        require_config(config)
    options = ExportOptions(
        formats=tuple(several(formats or ("pdmodel", "onnx"))),
        optional=() if formats else ("onnx",),
        normalize=normalize,
        size=size,
        feature="features" if config is None or pretrained else config.Global.retrieval_feature_from,
        paddlex_name=paddlex_name or PADDLEX_NAME,
        precision=precision,
        max_recall_drop=max_recall_drop,
    )
    if pretrained is not None:
        from shitu_cli.deployment.pretrained import write_pretrained

        return write_pretrained(as_given(pretrained), place_to_write(out or "inference"), options, reporter)
    if config is None:
        raise UsageError("there is no config that names a network, and no published weights are named")
    config = with_lists(config)
    places = Places.of(config)
    reporter = reporter or SilentReporter()
    weights = readable(place_of(checkpoint) or places.best, reporter)
    if change := changed_preparation(config, weights):
        reporter.info(change)
    # A path from the user is relative to the current directory, the default to the workspace.
    return run(config, weights, place_to_write(out if out is not None else places.inference), options)
