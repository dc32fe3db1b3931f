"""Show the figures of an evaluation, with what to do if they are bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shitu_cli.cli.console import Console
from shitu_cli.errors import Command
from shitu_cli.report.evaluation import effects_of, is_worth_deploying, options_of, right_first, ways_to_threshold
from shitu_cli.reporting import counted, unreadable

if TYPE_CHECKING:
    from shitu_cli.evaluation.result import EvalResult

FIGURES = ("recall@1", "recall@5", "mAP")  # shown; the others are in the reports
HARDLY_TRAINED = (
    "The network is hardly trained yet, or training has collapsed: train longer (train --epochs); if that does not "
    "help, try a lower rate (train --lr) or published weights"
)


def show_figures(console: Console, result: EvalResult, values: dict[str, Any], shares: list[float]) -> None:
    """Show the main figures and what limits them; thresholds for each of the `shares` of false answers."""
    against = f"among {counted(result.gallery, 'gallery image')}"
    against += f" (with {' '.join(options_of(values))})" if options_of(values) else ""
    coincidence = result.ranking.coincidence()
    if coincidence is None:
        rows = []
        for name in FIGURES:
            interval = values["intervals_95"].get(name)
            between = f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else ""
            rows.append([name, f"{result.metrics[name]:.4f}", between])
        console.table(f"{right_first(values)} {against}", ["metric", "value", "95 % interval"], rows)
    else:
        console.warn(f"{counted(result.queries, 'photo')} {against}: {coincidence}. {HARDLY_TRAINED}")
    if result.unanswerable:
        count = counted(result.unanswerable, "query", "queries")
        console.warn(f"{count} without an image of the same label in the gallery: left out of the means")
    if len({*result.sets[1].labels.tolist()}) == 1:
        console.warn("all gallery images have the same label, so every search is right and these figures say nothing")
    if result.skipped:
        console.warn(unreadable(result.skipped))
    if coincidence is not None:  # neither thresholds nor confusions mean anything then
        return
    if result.collapsed:
        console.warn(
            "features of different classes are still nearly the same: train longer; if that does not help, training "
            "has collapsed: try a lower rate (train --lr), published weights, or Head.margin_warmup"
        )
    elif not is_worth_deploying(values):
        console.warn(
            [
                "fewer than half of the photos find an image of their class first: train longer (train --epochs), or "
                "start from published weights: ",
                Command("weights list"),
            ]
        )
    _show_thresholds(console, values["unknown"], shares)
    worst = values["confusions"][:3]
    if worst:
        pairs = "; ".join(f"{row['name']} taken for {row['found_name']} ({row['n']})" for row in worst)
        console.info(f"most confused: {pairs}")


def _show_thresholds(console: Console, unknown: dict[str, Any] | None, shares: list[float]) -> None:
    """Show which score separates known from unknown things, and what that costs; or why none is suggested."""
    if unknown is None:  # not ranked by the cosines that search gives
        return
    suggested = unknown["suggested"]
    if suggested is None:
        console.info([f"no threshold for search is suggested: {unknown['problem']}; ", *ways_to_threshold(unknown)])
        return
    console.info(
        f"threshold {suggested['threshold']:.3f} (search --threshold auto), measured on {unknown['how']}, "
        f"{unknown['photos']:,} in all:"
    )
    for sentence in effects_of(suggested):
        console.info(f"  {sentence}")
    if suggested["false_answers"] > suggested["wanted"]:
        console.info(
            f"a share of {suggested['wanted']:g} cannot be promised: photos of classes that were not used to choose "
            "the threshold get wrong answers more often"
        )
    for row in unknown["promises"]:
        if row["wanted"] in shares and row["wanted"] != suggested["wanted"]:
            console.info(f"threshold {row['threshold']:.3f}: {'; '.join(effects_of(row))}")
