"""How the numerical benchmarks measure: processor time, on one thread, with the spread over rounds."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Findings:
    """``ratios`` of ours and another cost, each with its spread, and ``figures`` behind them."""

    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Findings") -> "Findings":
        return Findings(self.ratios | other.ratios, self.figures | other.figures)


def seconds(repeats: int, work: Callable[..., object], *arguments: object) -> float:
    """Mean processor seconds of one call over ``repeats``; unlike wall-clock, untouched by what else is running."""
    start = time.process_time()
    for _ in range(repeats):
        work(*arguments)
    return (time.process_time() - start) / repeats


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median with the middle half."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def milliseconds(values: Sequence[float]) -> dict[str, float]:
    """Median, middle half and 95th percentile of seconds, in milliseconds."""
    scaled = [1e3 * value for value in values]
    return summary(scaled) | {"p95": float(np.quantile(scaled, 0.95))}


def times(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Summary of theirs over ours, round by round."""
    return summary([one / other for one, other in zip(theirs, ours, strict=True)])


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
