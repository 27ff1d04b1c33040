"""Writes the results of a journey: Markdown, JSON and a plot with intervals over people."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from app.training.journey import ARMS, JourneyOptions, JourneyResult
from app.training.metrics import interval

COLOURS = {"personal": "#1b6ca8", "shuffled": "#b0413e", "swapped": "#c9a227"}
MEANING = {
    "personal": "own answers",
    "shuffled": "control: answers shuffled",
    "swapped": "control: another person's account",
}


def journey_table(result: JourneyResult) -> str:
    """Win rates of best-of-n over the plain answer, as Markdown."""
    counts = list(result.wins[ARMS[0]])
    lines = ["| win rate after … answers | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 1) + "|"]
    for arm, rows in result.intervals().items():
        lines.append(f"| {MEANING[arm]} | " + " | ".join(str(rows[count]) for count in counts) + " |")
    told = [f"{np.mean(result.certainty[count]):.3f}" for count in counts]
    lines.append("| certainty told | " + " | ".join(told) + " |")
    oracle = interval(np.array(result.oracle), np.random.default_rng(0))
    return (
        "\n".join(lines)
        + f"\n\nThe hidden taste itself, choosing among the same candidates, wins {oracle}. A draw counts one half."
    )


def journey_json(result: JourneyResult, options: JourneyOptions) -> str:
    """Options, win rates with intervals, and every person's own rates."""
    intervals = {arm: {t: asdict(one) for t, one in rows.items()} for arm, rows in result.intervals().items()}
    content = {
        "options": asdict(options),
        "win_rate": intervals,
        "oracle": asdict(interval(np.array(result.oracle), np.random.default_rng(0))),
        "certainty": {t: float(np.mean(values)) for t, values in result.certainty.items()},
        "people": result.wins,
        "ended_early": result.ended_early,
    }
    return json.dumps(content, indent=1) + "\n"


def plot_journey(result: JourneyResult, path: Path) -> None:
    """Win rate against number of answers, with 95 % intervals, for people and controls."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for arm, rows in result.intervals().items():
        counts = list(rows)
        means = [rows[t].mean for t in counts]
        errors = [[rows[t].mean - rows[t].low for t in counts], [rows[t].high - rows[t].mean for t in counts]]
        axes.errorbar(counts, means, yerr=errors, marker="o", capsize=3, color=COLOURS[arm], label=MEANING[arm])
    oracle = float(np.mean(result.oracle))
    axes.axhline(oracle, color="#777777", linestyle=":", label="hidden taste chooses")
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8)
    axes.set_xlabel("answers given")
    axes.set_ylabel("win rate over the plain answer")
    axes.set_ylim(0.4, 1.0)
    axes.set_xticks(list(result.certainty))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
