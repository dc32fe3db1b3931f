"""Show what a command would cost (--dry-run), and refuse what cannot fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shitu_cli.cli.console import Console
    from shitu_cli.steps.costs import Cost


def show_cost(console: Console, cost: Cost) -> None:
    """Show a cost as a table, or as JSON. Raises EnvironmentProblem if it cannot fit."""
    from shitu_cli.steps.costs import summary

    if console.as_json:
        console.json(cost.to_json())
    else:
        console.table("what it would cost; nothing was written", ["what", "how much"], summary(cost))
        for remark in cost.remarks:
            console.info(remark)
        console.info(f"time measured on this machine, now: {cost.basis}")
    cost.require_fit()
