"""Writes the frontier: Markdown, JSON and a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.training.frontier.arms import MEANING, Cell
from app.training.frontier.figures import Row, Target
from app.training.frontier.measure import Measured

COLOURS = {"off": "#777777", "best_of_n": "#1b6ca8", "early": "#c9a227", "block": "#6a4c93", "token": "#b0413e"}
LABELS = {
    "off": "plain answer",
    "best_of_n": "best of n",
    "early": "best of n, hopeless ones stopped",
    "block": "block-wise",
    "token": "token-level",
}
_HEAD = (
    "way to answer",
    "coefficients",
    "win rate over a plain answer",
    "above best of 16",
    "tokens generated (plain answer: 1)",
    "reward gained (best of 16: 1)",
    "length",
    "log-probability a token",
    "repeated 4-grams",
    "seconds alone",
)


def markdown(found: Sequence[Row], judged: Sequence[Target], measured: Measured) -> str:
    """A table of all cells, the targets, and what was left out."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in found]
    lines += ["", *(f"- {'reached' if one.reached else 'MISSED'}: {one.aim} ({one.by}: {one.found})" for one in judged)]
    lines += [f"- left out: {name}: {reason}" for name, reason in measured.left_out.items()]
    return "\n".join(lines)


def to_json(found: Sequence[Row], judged: Sequence[Target], measured: Measured, about: Mapping[str, Any]) -> str:
    """All figures, with every person's own wins and rewards."""
    content = {
        "name": "frontier",
        **about,
        "plain_tokens": float(np.mean(measured.plain_tokens)),
        "rows": {row.cell.name: _plain(row) for row in found},
        "targets": [asdict(one) for one in judged],
        "left_out": measured.left_out,
        "people": {name: {"wins": one.wins, "rewards": one.rewards} for name, one in measured.cells.items()},
    }
    return json.dumps(content, indent=1) + "\n"


def plot(found: Sequence[Row], path: Path) -> None:
    """Win rate against generated tokens; best of n as a line, the ceiling of a fully known taste hollow."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.4, 4.8))
    line = [row for row in found if row.cell.known == "answers" and row.cell.arm.plain]
    axes.plot([row.cost for row in line], [row.win_rate.mean for row in line], color=COLOURS["best_of_n"], linewidth=1)
    for row in found:
        if row.cell.known in {"answers", "full"}:
            _draw(axes, row)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("tokens generated, for each token of a plain answer")
    axes.set_ylabel("win rate over a plain answer")
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8)
    handles, names = axes.get_legend_handles_labels()
    distinct = dict(zip(names, handles, strict=True))
    axes.legend(
        distinct.values(), distinct, frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw(axes: Any, row: Row) -> None:
    kind, hollow = _kind(row.cell), row.cell.known == "full"
    mean = row.win_rate.mean
    axes.errorbar(
        row.cost,
        mean,
        yerr=[[mean - row.win_rate.low], [row.win_rate.high - mean]],
        marker="o",
        capsize=2,
        color=COLOURS[kind],
        markerfacecolor="white" if hollow else COLOURS[kind],
        linestyle="none",
        label=LABELS[kind] + (", taste fully known" if hollow else ""),
    )


def _kind(cell: Cell) -> str:
    if cell.arm.guidance != "none":
        return cell.arm.guidance
    return "early" if cell.arm.drop_below > 0 else cell.arm.mode


def _cells(row: Row) -> list[str]:
    over = row.over_baseline
    return [
        row.cell.arm.name,
        MEANING[row.cell.known],
        str(row.win_rate),
        f"{over.mean:+.3f} [{over.low:+.3f}, {over.high:+.3f}]",
        f"{row.cost:.2f}",
        str(row.reward),
        f"{row.length:.0f}",
        f"{row.fluency.log_probability:.2f}",
        f"{row.fluency.repetition:.3f}",
        f"{row.seconds:.2f}",
    ]


def _plain(row: Row) -> dict[str, Any]:
    return {**asdict(row), "cell": {"known": row.cell.known, **asdict(row.cell.arm)}}
