"""What the numerical core costs, against published procedures for the same steps and against reading the data once.

The fit of one person and the choice of a question against PReF (arXiv 2503.06358): gradient descent of 5,000 steps from
a random start, with the published tools and as lean as numpy allows, and pairs scored one at a time. The choice from
pools of up to a million pairs against one pass over their bytes. The fit of a basis against LoRe (arXiv 2504.14439).
All written again from the formulas. Each round times both sides in turn, on one thread and in processor time, so that
both see the same machine.

    python benchmarks/preferences.py --json preferences.json
"""

import argparse
import json
import os
from pathlib import Path

# Both sides on one thread; read when numpy loads.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import torch

from benchmarks.numerics.basis import compare_basis_fits
from benchmarks.numerics.measure import machine
from benchmarks.numerics.questions import compare_choices, compare_fits, compare_questions


def main() -> None:
    """Run all comparisons, print the ratios, and write everything as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the result to")
    parser.add_argument("--rounds", type=int, default=10, help="people, each timed on both sides (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="also run the published basis fit to its end (minutes)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    found = compare_fits(arguments.rounds, rng) | compare_questions(arguments.rounds, rng)
    found |= compare_choices(arguments.rounds, rng) | compare_basis_fits(rng, full=arguments.full)
    result = {
        "benchmark": "preferences",
        "machine": machine() | {"torch": torch.__version__},
        "ratios": found.ratios,
        "figures": {"rounds": arguments.rounds, "seed": arguments.seed} | found.figures,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
