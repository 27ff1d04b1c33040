"""Turns of work, timed in processor and wall seconds, and ratios of one side's turns to another's."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Taken:
    """One turn: processor seconds of all processes that worked, wall seconds, and tokens decoded."""

    cpu: float
    wall: float
    tokens: int


Turn = Callable[[], Taken]


class StoppedEarly(SystemExit):
    """A side decoded fewer tokens than are counted, so that no ratio would mean anything."""


def timed(work: Callable[[], int]) -> Taken:
    """A turn of ``work`` in this process, which returns the number of tokens that it decoded."""
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = work()
    return Taken(time.process_time() - cpu, time.perf_counter() - wall, tokens)


def take_turns(sides: Mapping[str, Turn], rounds: int) -> dict[str, list[Taken]]:
    """``rounds`` turns of each side, one after the other; a first round warms up and checks, and does not count.

    Raises:
        StoppedEarly: If the sides do not all decode the same number of tokens in every turn.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        now = {name: side() for name, side in sides.items()}
        counts = {name: one.tokens for name, one in now.items()}
        if len(set(counts.values())) != 1:
            raise StoppedEarly(f"A side stopped early: tokens are {counts}.")
        for name, one in now.items():
            if number:
                taken[name].append(one)
    return taken


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def faster(taken: Mapping[str, list[Taken]], ours: str, theirs: str, clock: str = "cpu") -> dict[str, float]:
    """How many times as fast ``ours`` is as ``theirs``, round by round, in processor ("cpu") or "wall" seconds."""
    pairs = zip(taken[ours], taken[theirs], strict=True)
    return spread([getattr(other, clock) / getattr(one, clock) for one, other in pairs])


def figures(taken: Mapping[str, list[Taken]]) -> dict[str, Any]:
    """Seconds of both clocks and tokens a processor second, by side."""
    return {
        name: {
            "cpu_seconds": spread([one.cpu for one in turns]),
            "wall_seconds": spread([one.wall for one in turns]),
            "tokens": turns[0].tokens,
            "tokens_per_cpu_second": spread([one.tokens / one.cpu for one in turns]),
        }
        for name, turns in taken.items()
    }


def machine() -> dict[str, Any]:
    """Where this runs, with the load of the last minute: figures of a busy machine say less."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    cpu = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    load = Path("/proc/loadavg")
    return {
        "processor": cpu[0] if cpu else platform.processor(),
        "threads": torch.get_num_threads(),
        "load": float(load.read_text().split()[0]) if load.exists() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
