"""`reports/evaluate.html`: what the figures look like, and which pictures are behind them."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.report.page import curve, figure, row, section, table, write_page

if TYPE_CHECKING:
    from shitu_cli.retrieval.evaluate import EvalResult

SHOWN, NEIGHBOURS = 12, 6
DEEPEST = 100  # of the recall curve


def write_evaluate_page(result: EvalResult, values: dict[str, Any], metrics_log: Path, path: Path) -> None:
    """Write the page; `values` is the evaluation's JSON, `metrics_log` the training's metrics.jsonl (may be absent)."""
    sections = [
        _summary(values),
        _recall_curve(result),
        _similarities(result, values),
        _queries(result, "Worst queries", _worst(result)),
        _queries(result, "Some queries", _some(result)),
        _confusions(values),
        _classes(values),
        _training(metrics_log),
    ]
    write_page(path, "shitu evaluate", [part for part in sections if part])


def _summary(values: dict[str, Any]) -> str:
    rows = [
        [name, f"{value:.4f}", " – ".join(f"{v:.3f}" for v in values["intervals_95"].get(name, ()))]
        for name, value in values["metrics"].items()
    ]
    left = f"{values['unanswerable']:,} of them without a match in the gallery (not in the means)"
    text = f"<p>{values['queries']:,} queries ({left}) against {values['gallery']:,} gallery pictures.</p>"
    return text + table(["metric", "value", "95 % interval"], rows, numeric=(1,))


def _recall_curve(result: EvalResult) -> str:
    first = result.ranking.first_rank[result.ranking.answerable]
    ks = list(range(1, min(DEEPEST, result.gallery) + 1))
    recalls = [float((first <= k).mean()) for k in ks]
    return section("Recall over k", curve([("recall@k", ks, recalls)], "k", "recall"))


def _similarities(result: EvalResult, values: dict[str, Any]) -> str:
    """Shares of pairs per similarity, in 100 bins, and what thresholds mean."""
    series = []
    for name, counts in (("same class", result.ranking.matches), ("other class", result.ranking.others)):
        binned = np.add.reduceat(counts, np.arange(0, 2000, 20)) / max(1, counts.sum())
        series.append((name, (np.arange(100) * 0.02 - 0.99).tolist(), binned.tolist()))
    rates = [[f"{r['far']:g}", f"{r['tar']:.4f}", f"{r['threshold']:.3f}"] for r in values["accept_rates"]]
    note = "<p>A threshold accepts pairs at or above it. <code>shitu search --threshold auto</code> takes 0.001.</p>"
    heads = ["false accepts", "true accepts", "threshold"]
    plot = curve(series, "similarity (cosine)", "share of pairs")
    return section("Similarity of matches and others", plot, note, table(heads, rates, numeric=(0, 1, 2)))


def _worst(result: EvalResult) -> list[int]:
    order = np.argsort(np.where(result.ranking.answerable, -result.ranking.first_rank, 0), kind="stable")
    return [int(n) for n in order[:SHOWN] if result.ranking.answerable[n] and result.ranking.first_rank[n] > 1]


def _some(result: EvalResult) -> list[int]:
    rng = np.random.default_rng(0)
    return sorted(int(n) for n in rng.choice(result.queries, min(SHOWN, result.queries), replace=False))


def _queries(result: EvalResult, title: str, numbers: list[int]) -> str:
    rows = []
    query, gallery = result.query.dataset, result.gallery_features.dataset
    for number in numbers:
        label = int(query.labels[number])
        figures = [figure(query.path(number), f"query: {_name(result, label)}", box=query.images.box(number))]
        for place, score in result.neighbours(number, NEIGHBOURS):
            found = int(gallery.labels[place])
            right = found == label
            caption = f"{'✓' if right else '✗'} {score:.3f} {_name(result, found)}"
            mark = "right" if right else "wrong"
            figures.append(figure(gallery.path(place), caption, box=gallery.images.box(place), mark=mark))
        rank = result.ranking.first_rank[number]
        note = f"first match at place {rank:.0f}" if np.isfinite(rank) else "no match in the gallery"
        rows.append(row(*figures) + f"<small>{note}</small>")
    return section(title, *rows) if rows else ""


def _name(result: EvalResult, label: int) -> str:
    return result.names.get(label, str(label)) if label >= 0 else "of no class"


def _confusions(values: dict[str, Any]) -> str:
    rows = [[item["name"], item["found_name"], item["n"]] for item in values["confusions"]]
    return section("Most confused", table(["class", "found first", "queries"], rows, numeric=(2,))) if rows else ""


def _classes(values: dict[str, Any]) -> str:
    rows = [[c["name"], c["queries"], f"{c['recall@1']:.3f}", f"{c['mAP']:.3f}"] for c in values["per_class"]]
    mean = f"<p>Mean over classes: recall@1 {values['macro']['recall@1']:.4f}.</p>"
    return section("Classes", mean, table(["class", "queries", "recall@1", "mAP"], rows, numeric=(1, 2, 3)))


def _training(log: Path) -> str:
    """Loss per epoch and recall@1 of every run that wrote into this log."""
    runs: list[dict[str, list[tuple[float, float]]]] = []
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue
        kind, epoch = item.get("kind"), item.get("epoch")
        if kind == "epoch" and isinstance(epoch, int):
            if not runs or (runs[-1]["loss"] and epoch <= runs[-1]["loss"][-1][0]):
                runs.append({"loss": [], "recall": []})
            runs[-1]["loss"].append((epoch, float(item.get("loss", "nan"))))
        elif kind == "eval" and runs and "recall@1" in item:
            runs[-1]["recall"].append((float(epoch or 0), float(item["recall@1"])))
    plots = []
    for key, title in (("loss", "training loss"), ("recall", "recall@1")):
        shown = [(f"run {n}", run[key]) for n, run in enumerate(runs, 1) if run[key]][-4:]
        series = [(name, [x for x, _ in points], [y for _, y in points]) for name, points in shown]
        plots.append(curve(series, "epoch", title))
    note = escape(f"{len(runs)} runs in {log.name}, the last four shown") if len(runs) > 4 else ""
    return section("Training", *plots, f"<small>{note}</small>" if note else "") if any(plots) else ""
