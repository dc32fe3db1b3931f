"""`evaluate` for configs that measure the classifier instead of retrieval (`Global.eval_mode: classification`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shitu_cli.config.arguments import require_flags
from shitu_cli.config.places import Places, prefix_of, weights_of
from shitu_cli.config.schema import Config
from shitu_cli.errors import UsageError
from shitu_cli.features.backends import is_exported
from shitu_cli.features.engine import engine_from_model
from shitu_cli.files import atomic_write_json, load_with_hash
from shitu_cli.inputs import StrPath
from shitu_cli.processes import this_process
from shitu_cli.report.evaluation import CLASSIFIER
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.setup import setup_paddle
from shitu_cli.steps.models import changed_since_training, readable
from shitu_cli.steps.settings import with_lists

if TYPE_CHECKING:
    from shitu_cli.model.rec_model import RecModel


@dataclass(frozen=True)
class ClassifierEvaluation:
    """How often the head of a network is right: `metrics` top1, top5, … over `images` of DataLoader.Eval.

    `skipped` says why others could not be read; those without a class are not counted either. `weights` is the SHA-256
    of the weights of `model`.
    """

    config: Config
    model: str
    weights: str
    images: int
    metrics: Mapping[str, float]
    skipped: Sequence[str]

    @property
    def values(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "measured": {"model": self.model, "features": self.weights},
            "images": self.images,
            "skipped": list(self.skipped),
            "metrics": dict(self.metrics),
        }

    def write_report(self) -> Path:
        """Write `classifier.json` into the workspace's reports and return it; EnvironmentProblem if that fails."""
        file = Places.of(self.config).workspace.reports_dir / f"{CLASSIFIER}.json"
        atomic_write_json(file, self.values)
        return file


def evaluate_classifier(
    config: Config,
    *,
    model: StrPath | None = None,
    cache: bool = True,
    reporter: Reporter | None = None,
) -> ClassifierEvaluation | None:
    """Measure how often the head names the class of an image of DataLoader.Eval.

    Args:
        config: The result of `load_config`, with the list as query.
        model: A checkpoint; by default the best one.
        cache: Keep features for the next evaluation.
        reporter: Receives progress and warnings; by default they are discarded.

    Returns None in all but the first process where the command line has started several. Raises UsageError without
    trained weights or for an exported model, which has no head, DataError for lists, images and weights that do not
    fit, ConfigError for a network without a head.
    """
    require_flags(cache=cache)
    config = with_lists(config, ("query",))
    places = Places.of(config)
    output = this_process.reporter_of(reporter)
    setup_paddle(this_process.own_device(config.Global.device))
    from shitu_cli.features.cache import FeatureCache
    from shitu_cli.processes.collectives import join
    from shitu_cli.training.classifying import as_classified, measure_head

    processes = join()
    prefix = Path(model) if model is not None else places.best
    standing = readable(prefix, output)
    network, weights = load_with_hash(weights_of(standing), lambda: _network(standing, config))
    engine = engine_from_model(network, as_classified(config), weights=weights)
    output.info(f"{model or 'the best checkpoint'}, run by {engine.summary()}")
    if _numbered_otherwise(config, prefix):
        output.warn(
            "label_map.txt has changed since this model was trained: unless classes were only added, the class numbers "
            "mean something else to the model, and these figures say nothing"
        )
    kept = FeatureCache(places.workspace.cache_dir / "features") if cache else None
    accuracy = measure_head(network.head, engine, config, output, processes, cache=kept)
    if accuracy is None:
        return None
    name = str(model or places.best)
    return ClassifierEvaluation(config, name, weights, accuracy.images, accuracy.metrics, accuracy.skipped)


def _numbered_otherwise(config: Config, prefix: Path) -> bool:
    """Return whether the label map beside the list that is evaluated is not the one of the training."""
    split = config.DataLoader.query
    now = None if split is None else Path(split.dataset.cls_label_path).with_name("label_map.txt")
    return changed_since_training(prefix_of(prefix), "label_map", now)


def _network(prefix: Path, config: Config) -> RecModel:
    from shitu_cli.model.tracing import load_trained

    if is_exported(prefix):
        raise UsageError(
            f"{prefix} is an exported model, which has no classifier",
            hint="name a checkpoint, such as --model output/best_model, or measure retrieval: "
            "-o Global.eval_mode=retrieval",
        )
    return load_trained(prefix, config, whole=True)
