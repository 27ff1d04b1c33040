"""Writes campaigns: Markdown tables, JSON and plots."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.training.evaluation.campaign import Campaign, Figures
from app.training.evaluation.gates import judge
from app.training.metrics import Interval

PLOTTED = {"auc": "AUC", "accuracy": "accuracy", "log_loss": "log-loss"}
COLOURS = ("#1b6ca8", "#b0413e", "#c9a227", "#4b8f5c", "#7a5c99", "#777777", "#d17b49")


def markdown(campaign: Campaign) -> str:
    """Scores, paired differences, controls, certainty and gates as tables."""
    figures = {name: campaign.figures(records) for name, records in campaign.methods.items()}
    parts = [f"## {campaign.name}", _people_line(campaign)]
    parts += [
        _table(f"{metric} after … answers", campaign.counts, {n: one[metric] for n, one in figures.items()})
        for metric in ("auc", "accuracy", "log_loss", "ece")
    ]
    differences = {name: one["auc"] for name, one in campaign.paired().items()}
    parts.append(_table("AUC difference, paired", campaign.counts, differences))
    controls = {name: campaign.figures(records)["accuracy"] for name, records in campaign.controls.items()}
    if controls:
        parts.append(_table("control: accuracy", campaign.counts, controls))
    rows = [
        f"| {b.low:.1f}–{b.low + 0.1:.1f} | {b.told:.3f} | {b.realised:.3f} | {b.stages} |"
        for b in campaign.certainty()
    ]
    parts.append("\n".join(["| certainty told | mean told | realised | stages |", "|---|---|---|---|", *rows]))
    times = [f"| {name} | {campaign.milliseconds(name):.2f} |" for name in campaign.methods]
    parts.append("\n".join(["| method | ms a question |", "|---|---|", *times]))
    verdicts = {True: "pass", False: "FAIL", None: "–"}
    gates = [f"| {g.name} | {verdicts[g.passed]} | {g.found} | {g.requirement} |" for g in judge(campaign)]
    parts.append("\n".join(["| gate | verdict | found | required |", "|---|---|---|---|", *gates]))
    return "\n\n".join(parts)


def content(campaign: Campaign) -> dict[str, Any]:
    """One campaign in the documented schema; numbers that do not exist are null."""
    return {
        "name": campaign.name,
        "seeds": list(campaign.seeds),
        "people": campaign.people,
        "times_held_out": len(campaign.names),
        "left_out": {str(seed): list(names) for seed, names in campaign.left_out.items()},
        "counts": list(campaign.counts),
        "methods": {
            name: {**_figures(campaign.figures(records)), "milliseconds_per_question": campaign.milliseconds(name)}
            for name, records in campaign.methods.items()
        },
        "paired": {name: _figures(one) for name, one in campaign.paired().items()},
        "controls": {name: _figures(campaign.figures(records)) for name, records in campaign.controls.items()},
        "certainty": [asdict(one) for one in campaign.certainty()],
        "checks": asdict(campaign.checks) if campaign.checks else None,
        "gates": {
            gate.name: {"requirement": gate.requirement, "found": gate.found, "passed": gate.passed}
            for gate in judge(campaign)
        },
    }


def write_json(name: str, campaigns: Sequence[Campaign], path: Path) -> None:
    """One campaign as it is; several, as the cells of one evaluation, with all gates on top as well."""
    if len(campaigns) == 1:
        found = content(campaigns[0]) | {"name": name}
    else:
        cells = {one.name: content(one) for one in campaigns}
        gates = {f"{cell}: {gate}": verdict for cell, one in cells.items() for gate, verdict in one["gates"].items()}
        found = {"name": name, "seeds": list(campaigns[0].seeds), "cells": cells, "gates": gates}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


def plot(campaign: Campaign, path: Path) -> None:
    """AUC, accuracy and log-loss against the number of answers, with 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(PLOTTED), figsize=(13, 4))
    for (metric, label), axes in zip(PLOTTED.items(), panels, strict=True):
        for colour, (name, records) in zip(COLOURS, campaign.methods.items(), strict=False):
            rows = campaign.figures(records)[metric]
            means = [rows[t].mean for t in campaign.counts]
            errors = [[abs(rows[t].mean - getattr(rows[t], side)) for t in campaign.counts] for side in ("low", "high")]
            axes.errorbar(campaign.counts, means, yerr=errors, marker="o", capsize=3, color=colour, label=name)
        axes.set_xlabel("answers given")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_ylim(0.0, 1.2)
    panels[0].legend(frameon=False)
    figure.suptitle(campaign.name)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _people_line(campaign: Campaign) -> str:
    return (
        f"{campaign.people} different people held out {len(campaign.names)} times over {len(campaign.seeds)} seeds; "
        "means with 95 % intervals over people."
    )


def _table(title: str, counts: Sequence[int], rows: Mapping[str, Mapping[int, Interval]]) -> str:
    lines = [f"| {title} | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row[count]) for count in counts) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def _figures(figures: Figures) -> dict[str, Any]:
    return {metric: {str(t): _interval(one) for t, one in rows.items()} for metric, rows in figures.items()}


def _interval(one: Interval) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(one).items()}
