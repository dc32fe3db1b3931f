"""Does the promise hold? Of foreign photos, how many get an answer at the threshold that evaluation suggests.

Twelve classes are indexed, photos of thirty others are asked. In a closed split the projection has been learnt from
the indexed classes (the threshold is measured by cross-fitting), in an open one from thirty further classes (measured
by leaving indexed classes out). Features are those of published weights, computed once; everything after them is the
program's own code. The last columns compare the rules of an answer at the same share of false answers: the nearest
neighbours vote, or the nearest class centre wins.

    python benchmarks/unknown.py path/to/grocery [--features features.npz] [--seeds 3]

`path/to/grocery` holds folders of images, one for each class, at any depth (such as train/ of the Grocery Store
dataset).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from shitu_cli import Extractor
from shitu_cli.deployment.pretrained import export_pretrained
from shitu_cli.evaluation.metrics import FeatureSet
from shitu_cli.evaluation.thresholds import Thresholds, lowest_threshold, thresholds
from shitu_cli.evaluation.unknown import Outcomes, all_photos, ask, ask_left_out, joined, take
from shitu_cli.features.unit_length import normalized
from shitu_cli.training.cross_fit import FOLDS
from shitu_cli.training.projection import Projection, Scatter, discriminant, whitening

INDEXED, FOREIGN, TRAINED, PHOTOS = 12, 30, 30, 15
QUERIES = 0.2  # of the photos of a class in a closed split


@dataclasses.dataclass(frozen=True)
class Trial:
    """What was promised, and what foreign photos get then; `known` and `foreign` for both rules of an answer."""

    promised: Thresholds
    foreign: Outcomes
    known: Outcomes
    by_centres: tuple[Outcomes, Outcomes]  # known, foreign


def features_of(root: Path, kept: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 [N, D], not normalised, and class numbers int64 [N] of all images below `root`."""
    if not kept.is_file():
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        labels = np.unique([str(path.parent) for path in files], return_inverse=True)[1]
        extractor = Extractor(export_pretrained("efficientnet-lite0"))
        np.savez(kept, x=extractor.extract(files, normalize=False), labels=labels)
    with np.load(kept) as data:
        return data["x"], data["labels"]


def learnt(features: np.ndarray, labels: np.ndarray, *, closed: bool) -> Projection:
    classes, places = np.unique(labels, return_inverse=True)
    scatter = Scatter(features.shape[1], len(classes))
    scatter.add(features, places)
    return discriminant(scatter) if closed else whitening(scatter)


def by_centres(photos: FeatureSet, gallery: FeatureSet) -> Outcomes:
    """Return what photos get if the label of the nearest class centre is the answer, the photo itself left out."""
    assert photos.identity is not None and gallery.identity is not None
    labels, places = np.unique(gallery.labels, return_inverse=True)
    sums = np.zeros((len(labels), gallery.features.shape[1]))
    np.add.at(sums, places, gallery.features)
    place_of = {int(identity): n for n, identity in enumerate(gallery.identity)}
    scores, answers = np.empty(len(photos)), np.empty(len(photos), np.int64)
    for number, feature in enumerate(photos.features):
        own = place_of.get(int(photos.identity[number]))
        centres = sums.copy()
        if own is not None:
            centres[places[own]] -= gallery.features[own]
        similarity = normalized(centres.astype(np.float32)) @ feature
        scores[number], answers[number] = similarity.max(), labels[similarity.argmax()]
    return Outcomes(scores, answers == photos.labels, photos.labels)


def closed(x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Trial:
    classes = rng.permutation(np.unique(labels))
    ours, others = classes[:INDEXED], classes[INDEXED : INDEXED + FOREIGN]
    rows = chosen(labels, ours, rng)
    is_query = np.zeros(len(rows), bool)
    for label in ours:
        members = np.flatnonzero(labels[rows] == label)
        is_query[rng.permutation(members)[: max(1, round(QUERIES * len(members)))]] = True
    train, query = rows[~is_query], rows[is_query]
    project = learnt(x[train], labels[train], closed=True)
    gallery, asked = part(x, labels, train, project), part(x, labels, query, project)
    parts = []
    for fold in range(FOLDS):
        out = ours[np.arange(len(ours)) % FOLDS == fold]
        rest = train[~np.isin(labels[train], out)]
        without = learnt(x[rest], labels[rest], closed=True)
        photos = all_photos(part(x, labels, query, without), part(x, labels, train, without))
        photos = take(photos, np.flatnonzero(np.isin(photos.labels, out)))
        parts.append(ask(photos, part(x, labels, rest, without)))
    known = ask(asked, gallery)
    promised = thresholds(known, joined(parts), how="", labels=INDEXED - -(-INDEXED // FOLDS), indexed=INDEXED)
    foreign = part(x, labels, chosen(labels, others, rng), project)
    return Trial(promised, ask(foreign, gallery), known, (by_centres(asked, gallery), by_centres(foreign, gallery)))


def open_(x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Trial:
    classes = rng.permutation(np.unique(labels))
    ours, others, trained = np.split(classes[: INDEXED + FOREIGN + TRAINED], [INDEXED, INDEXED + FOREIGN])
    train = chosen(labels, trained, rng)
    project = learnt(x[train], labels[train], closed=False)
    gallery = part(x, labels, chosen(labels, ours, rng), project)
    known = ask(gallery, gallery)
    left_out = ask_left_out(gallery, gallery, ours.tolist())
    promised = thresholds(known, left_out, how="", labels=INDEXED - 1, indexed=INDEXED)
    foreign = part(x, labels, chosen(labels, others, rng), project)
    return Trial(promised, ask(foreign, gallery), known, (by_centres(gallery, gallery), by_centres(foreign, gallery)))


def chosen(labels: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:PHOTOS] for label in classes])


def part(x: np.ndarray, labels: np.ndarray, rows: np.ndarray, project: Projection) -> FeatureSet:
    return FeatureSet(normalized(project(x[rows])), labels[rows], None, rows)


def right_at(known: Outcomes, foreign: Outcomes, share: float) -> float:
    """Return the share of known photos with the right answer where the true share of false answers is `share`."""
    limit = lowest_threshold(foreign, share)
    return float(((known.scores >= (2 if limit is None else limit)) & known.right).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--features", type=Path, default=Path("unknown-features.npz"), help="where they are kept")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    x, labels = features_of(options.images, options.features)
    print("split   seed  threshold  promised (95 %)        foreign answered  held  known right  neighbours  centres")
    inside, shares = [], []
    for name, trial_of in (("closed", closed), ("open", open_)):
        for seed in range(options.seeds):
            trial = trial_of(x, labels, np.random.default_rng(seed))
            promise = trial.promised.suggested
            assert promise is not None, trial.promised.problem
            share = float((trial.foreign.scores >= promise.threshold).mean())
            low, high = promise.false_answers_95
            inside.append(low <= share <= high)
            shares.append(share)
            print(
                f"{name:6} {seed:5}  {promise.threshold:9.3f}  {promise.false_answers:6.1%} ({low:5.1%} to {high:5.1%})"
                f"  {share:16.1%}  {'yes' if inside[-1] else 'NO':>4}  {promise.right:11.1%}"
                f"  {right_at(trial.known, trial.foreign, 0.05):10.1%}"
                f"  {right_at(*trial.by_centres, 0.05):7.1%}",
                flush=True,
            )
    print(f"held in {sum(inside)} of {len(inside)}; foreign photos answered: {np.mean(shares):.1%} on average")


if __name__ == "__main__":
    main()
