"""The page `reports/evaluate.html`: the figures of an evaluation as charts and tables, and the images behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.report.chart import curve
from shitu_cli.report.evaluation import effects_of, model_of, options_of, right_first
from shitu_cli.report.page import figure, whole_page

if TYPE_CHECKING:
    from shitu_cli.evaluation.result import EvalResult
    from shitu_cli.training.history import RunHistory

QUERIES, NEIGHBOURS = 12, 6
DEEPEST = 100  # largest k of the recall curve


def evaluate_page(result: EvalResult, values: dict[str, Any], runs: Sequence[RunHistory]) -> str:
    """Return the page; `values` is the JSON of the evaluation, `runs` are all of the workspace, oldest first."""
    coincidence = result.ranking.coincidence()
    shown = {
        "right_first": right_first(values),
        "counts": _counts(values),
        "options": " ".join(options_of(values)),
        "coincidence": "" if coincidence is None else coincidence[0].upper() + coincidence[1:],
        "metrics": [
            [name, f"{value:.4f}", " – ".join(f"{v:.3f}" for v in values["intervals_95"].get(name, ()))]
            for name, value in values["metrics"].items()
        ],
        "charts": {"recall": _recall_curve(result), "similarities": _similarities(result, values["unknown"])},
        "unknown": _thresholds(values["unknown"]),
        "worst": _queries(result, _worst(result)),
        "some": _queries(result, _some(result)),
        "confusions": [[item["name"], item["found_name"], item["n"]] for item in values["confusions"]],
        "means": [[name, f"{v:.4f}", f"{values['metrics'][name]:.4f}"] for name, v in values["macro"].items()],
        "classes": [[c["name"], c["queries"], f"{c['recall@1']:.3f}", f"{c['mAP']:.3f}"] for c in values["per_class"]],
        "training": _training(runs),
    }
    return whole_page("evaluate.html", "shitu evaluate", [f"model {model_of(values)}"], shown)


def _counts(values: dict[str, Any]) -> str:
    unanswerable = values["unanswerable"]
    exclusion = f", {unanswerable:,} of them without a match there and left out of the means" if unanswerable else ""
    return f"{values['queries']:,} queries against {values['gallery']:,} gallery images{exclusion}."


def _recall_curve(result: EvalResult) -> str:
    first = result.ranking.first_rank[result.ranking.answerable]
    ks = list(range(1, min(DEEPEST, result.gallery) + 1))
    recalls = [float((first <= k).mean()) for k in ks]
    return curve([("recall@k", ks, recalls)], "k", "recall", y_top=1.0)


def _thresholds(unknown: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what thresholds do to photos of unknown and of known things, as the page shows it."""
    if unknown is None or unknown["suggested"] is None:
        return unknown
    rows = [
        [
            f"{promise['threshold']:.3f}",
            f"{promise['false_answers']:.1%}",
            " – ".join(f"{share:.1%}" for share in promise["false_answers_95"]),
            f"{promise['right']:.1%}",
            f"{promise['wrong']:.1%}",
        ]
        for promise in unknown["promises"]
    ]
    return {**unknown, "effect": "; ".join(effects_of(unknown["suggested"])), "rows": rows}


def _similarities(result: EvalResult, unknown: dict[str, Any] | None) -> str:
    """Plot the shares of pairs per similarity, in 100 bins, and the suggested threshold."""
    series = []
    for name, counts in (("same class", result.ranking.matches), ("other class", result.ranking.others)):
        shares = np.add.reduceat(counts, np.arange(0, 2000, 20)) / max(1, counts.sum())
        series.append((name, (np.arange(100) * 0.02 - 0.99).tolist(), shares.tolist()))
    if unknown is not None and unknown["suggested"] is not None:
        highest, threshold = max(max(heights) for _, _, heights in series), unknown["suggested"]["threshold"]
        series.append((f"threshold {threshold:.3f}", [threshold] * 2, [0.0, highest]))
    return curve(series, "similarity (cosine)", "share of pairs", fill=True)


def _worst(result: EvalResult) -> list[int]:
    order = np.argsort(np.where(result.ranking.answerable, -result.ranking.first_rank, 0), kind="stable")
    return [int(n) for n in order[:QUERIES] if result.ranking.answerable[n] and result.ranking.first_rank[n] > 1]


def _some(result: EvalResult) -> list[int]:
    rng = np.random.default_rng(0)
    return sorted(int(n) for n in rng.choice(result.queries, min(QUERIES, result.queries), replace=False))


def _queries(result: EvalResult, numbers: list[int]) -> list[dict[str, Any]]:
    """Return queries with their nearest gallery images, each with whether it is right."""
    rows = []
    query, gallery = result.query.dataset, result.gallery_features.dataset
    for number in numbers:
        label = int(query.labels[number])
        figures = [figure(query.location(number), f"query: {result.name(label)}", box=query.images.box(number))]
        for place, score in result.neighbours(number, NEIGHBOURS):
            neighbour = int(gallery.labels[place])
            right = neighbour == label
            caption = f"{'✓' if right else '✗'} {score:.3f} {result.name(neighbour)}"
            mark = "right" if right else "wrong"
            figures.append(figure(gallery.location(place), caption, box=gallery.images.box(place), mark=mark))
        rank = result.ranking.first_rank[number]
        note = f"first match at rank {rank:.0f}" if np.isfinite(rank) else "no match in the gallery"
        rows.append({"figures": figures, "note": note})
    return rows


def _training(runs: Sequence[RunHistory]) -> dict[str, Any] | None:
    """Return loss and recall@1 per epoch of the newest runs as curves, and all runs with the path of their weights."""
    recent = [(n, run) for n, run in enumerate(runs, 1) if run.losses][-4:]
    losses = [(f"run {n}", list(range(1, len(run.losses) + 1)), run.losses) for n, run in recent]
    recalls = [(f"run {n}", *_columns(run.scores)) for n, run in recent if run.scores]
    plots = {"losses": curve(losses, "epoch", "training loss"), "recalls": curve(recalls, "epoch", "recall@1")}
    if not any(plots.values()):
        return None
    rows = []
    for n, run in enumerate(runs, 1):
        epoch, best = max(run.scores, key=lambda score: score[1], default=("", None))
        last = f"{run.losses[-1]:.4f}" if run.losses else ""
        best_text = "" if best is None else f"{best:.4f}"
        progress = f"{len(run.losses)} of {run.epochs}"
        rows.append([f"run {n}", f"output/{run.name}", run.network, progress, last, best_text, epoch])
    return {**plots, "rows": rows}


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
