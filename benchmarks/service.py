"""A personal answer over HTTP against a plain one: what best-of-N costs a caller of ``/v1/generations``.

Starts a service with the bundled model as a process of its own; both kinds of request take turns, each with a
new seed, so that nothing comes from a cache.

Example:
    python benchmarks/service.py --rounds 15 --json service.json
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import httpx2

from app.commands.local_service import local_service

PROMPTS = (
    "How can I sleep better?",
    "What should I cook for four friends on Sunday?",
    "Give me three ideas for a rainy weekend.",
    "How do I ask my neighbour to be quieter at night?",
)


def ask(http: httpx2.Client, number: int, mode: str, arguments: argparse.Namespace) -> tuple[float, int]:
    """Seconds until the answer is complete, and tokens generated for it."""
    body = {
        "user_id": "bench",
        "prompt": PROMPTS[number % len(PROMPTS)],
        "personalization": {"mode": mode, "n_candidates": arguments.candidates},
        "max_tokens": arguments.tokens,
        "seed": 1000 + number,
    }
    started = time.perf_counter()
    response = http.post("/v1/generations", json=body)
    seconds = time.perf_counter() - started
    response.raise_for_status()
    return seconds, int(response.json()["usage"]["completion_tokens"])


def measure(http: httpx2.Client, arguments: argparse.Namespace) -> dict[str, list[tuple[float, int]]]:
    """Alternating requests of both kinds; the first round warms up and does not count."""
    http.put("/v1/users/bench", json={}).raise_for_status()
    results: dict[str, list[tuple[float, int]]] = {"off": [], "best_of_n": []}
    for number in range(arguments.rounds + 1):
        for shift, mode in enumerate(results):
            measured = ask(http, 2 * number + shift, mode, arguments)
            if number:
                results[mode].append(measured)
    return results


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def report(results: dict[str, list[tuple[float, int]]], arguments: argparse.Namespace) -> dict[str, Any]:
    plain, personal = results["off"], results["best_of_n"]
    paired = zip(plain, personal, strict=True)
    return {
        "benchmark": "service",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "ratios": {"seconds, best-of-n over off": spread([mine[0] / generic[0] for generic, mine in paired])},
        "figures": {
            "candidates": arguments.candidates,
            "max_tokens": arguments.tokens,
            "off, seconds": spread([seconds for seconds, _ in plain]),
            "best_of_n, seconds": spread([seconds for seconds, _ in personal]),
            "best_of_n, tokens a second": spread([tokens / seconds for seconds, tokens in personal]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with local_service() as address, httpx2.Client(base_url=address, timeout=120) as http:
        found = report(measure(http, arguments), arguments)
    print(json.dumps(found, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
