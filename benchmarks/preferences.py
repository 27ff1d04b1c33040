"""What the numerical core costs, against the published procedures for the same two steps, in one process.

The fit of one person against plain gradient descent of 5,000 steps from a random start, and the choice of a question
among 10,000 pairs against scoring one pair at a time: both as PReF (arXiv 2503.06358) describes and publishes them,
written again here from the formulas in numpy. Each round times ours and theirs in turn, on one thread and in processor
time, so that both see the same machine.

    python benchmarks/preferences.py --json preferences.json
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # both sides on one thread; read when numpy loads
)

import numpy as np
from jaxtyping import Float64

from app.preferences.logistic import log_sigmoid, sigmoid
from app.preferences.posterior import Posterior, fit_posterior
from app.preferences.selection import select_pair
from app.preferences.synthetic import answer, draw_people

SIZE = 8
PAIRS = 10_000
ANSWERS = (5, 10, 20, 50)
DESCENT_STEPS = 5_000
DESCENT_RATE = 0.01
RIDGE = 1e-3


def descend(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, " basis"]:
    """The published fit: fixed-step gradient descent on the mean log-loss, no prior, random start."""
    coefficients = rng.standard_normal(differences.shape[1])
    for _ in range(DESCENT_STEPS):
        residuals = 1.0 / (1.0 + np.exp(-(differences @ coefficients))) - first_preferred
        coefficients = coefficients - DESCENT_RATE * (differences.T @ residuals) / len(residuals)
    return np.asarray(coefficients, dtype=np.float64)


def choose_one_by_one(
    coefficients: Float64[np.ndarray, " basis"],
    asked: Float64[np.ndarray, "asked basis"],
    differences: Float64[np.ndarray, "pairs basis"],
) -> int:
    """The published choice: squared answer variance times squared norm in the inverse curvature, pair after pair."""
    curvature = RIDGE * np.eye(len(coefficients))
    for row in asked:
        slope = float(sigmoid(np.array([row @ coefficients]))[0])
        curvature += slope * (1.0 - slope) * np.outer(row, row)
    inverse = np.linalg.inv(curvature)
    gains = np.empty(len(differences))
    for index, row in enumerate(differences):
        slope = 1.0 / (1.0 + np.exp(-(row @ coefficients)))
        gains[index] = (slope * (1.0 - slope)) ** 2 * (row @ inverse @ row)
    return int(np.argmax(gains))


def seconds(repeats: int, work: Callable[..., object], *arguments: object) -> float:
    """Mean processor seconds of one call over ``repeats``; unlike wall-clock, untouched by what else is running."""
    start = time.process_time()
    for _ in range(repeats):
        work(*arguments)
    return (time.process_time() - start) / repeats


def summary(values: list[float]) -> dict[str, float]:
    """Median with the middle half."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def held_out_loss(
    coefficients: Float64[np.ndarray, " basis"],
    truth: Float64[np.ndarray, " basis"],
    fresh: Float64[np.ndarray, "pairs basis"],
) -> float:
    """Expected log-loss in nats of predicting fresh answers of the true person with point estimates."""
    chance, margins = sigmoid(fresh @ truth), fresh @ coefficients
    return float(-(chance * log_sigmoid(margins) + (1.0 - chance) * log_sigmoid(-margins)).mean())


def compare_fits(rounds: int, rng: np.random.Generator) -> tuple[dict[str, object], dict[str, object]]:
    """Ratios and figures of the fit for several numbers of answers."""
    population = Posterior(np.zeros(SIZE), np.eye(SIZE))
    fresh = rng.standard_normal((500, SIZE))
    ratios: dict[str, object] = {}
    figures: dict[str, object] = {}
    for count in ANSWERS:
        ours, theirs, losses = [], [], []
        for truth in draw_people(population, rounds, rng):
            rows = rng.standard_normal((count, SIZE))
            answers = answer(truth, rows, rng)
            ours.append(seconds(20, fit_posterior, population, rows, answers))
            theirs.append(seconds(1, descend, rows, answers, rng))
            posterior, _ = fit_posterior(population, rows, answers)
            descended = descend(rows, answers, rng)
            losses.append([held_out_loss(fitted, truth, fresh) for fitted in (posterior.mean, descended)])
        ratios[f"fit_{count}_answers_times_faster"] = summary([b / a for a, b in zip(ours, theirs, strict=True)])
        figures[f"fit_{count}_answers"] = {
            "milliseconds": summary([1e3 * value for value in ours]),
            "milliseconds_p95": float(np.quantile(ours, 0.95)) * 1e3,
            "descent_milliseconds": summary([1e3 * value for value in theirs]),
            "held_out_log_loss": float(np.mean([ours for ours, _ in losses])),
            "descent_held_out_log_loss": float(np.mean([theirs for _, theirs in losses])),
        }
    return ratios, figures


def compare_choices(rounds: int, rng: np.random.Generator) -> tuple[dict[str, object], dict[str, object]]:
    """Ratio and figures of choosing one of 10,000 pairs after ten answers."""
    population = Posterior(np.zeros(SIZE), np.eye(SIZE))
    allowed = np.ones(PAIRS, dtype=np.bool_)
    ours, theirs = [], []
    for truth in draw_people(population, rounds, rng):
        asked, differences = rng.standard_normal((10, SIZE)), rng.standard_normal((PAIRS, SIZE))
        belief, _ = fit_posterior(population, asked, answer(truth, asked, rng))
        ours.append(seconds(10, select_pair, belief, differences, allowed))
        theirs.append(seconds(1, choose_one_by_one, belief.mean, asked, differences))
    ratios: dict[str, object] = {
        f"choice_{PAIRS}_pairs_times_faster": summary([b / a for a, b in zip(ours, theirs, strict=True)])
    }
    figures: dict[str, object] = {
        f"choice_{PAIRS}_pairs": {
            "milliseconds": summary([1e3 * value for value in ours]),
            "milliseconds_p95": float(np.quantile(ours, 0.95)) * 1e3,
            "one_by_one_milliseconds": summary([1e3 * value for value in theirs]),
        }
    }
    return ratios, figures


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


def main() -> None:
    """Run both comparisons, print the ratios, and write everything as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--rounds", type=int, default=20, help="people, each timed on both sides (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    fit_ratios, fit_figures = compare_fits(arguments.rounds, rng)
    choice_ratios, choice_figures = compare_choices(arguments.rounds, rng)
    result = {
        "benchmark": "preferences",
        "machine": machine(),
        "ratios": fit_ratios | choice_ratios,
        "figures": {"basis_rewards": SIZE, "rounds": arguments.rounds} | fit_figures | choice_figures,
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
