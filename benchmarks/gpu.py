"""A model of real size on one device: decoding against the bound that memory sets, and what rewards and guidance add.

The model has random weights and is made on the device. The bound of a decoding step is the time in which the device
reads all weights and the keys and values in use, at the bandwidth that copying a large buffer shows in the same run.
Without a GPU, ``--preset tiny --device cpu`` runs all of it but the graphs.

Example:
    python benchmarks/gpu.py --preset 8b --graphs --json gpu.json
    python benchmarks/gpu.py --preset tiny --device cpu
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.entities import SamplingOptions, Steering
from app.generation.batch.drawing import Drawing
from app.generation.batch.guided import Guide
from app.generation.batch.heads import Heads
from app.generation.batch.scheduler import Scheduler
from app.rewards.language import LanguageModel
from benchmarks.decode.engine_side import random_values
from benchmarks.device.random_model import PRESETS, Size, random_model
from benchmarks.device.static_step import DecodingStep, StaticMemory

BASIS = 16
USERS = 8
ROWS = (1, 4, 16, 32)
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**26}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
Spread = dict[str, float]
Call = tuple[int, bool]


class Device:
    """Where everything runs, and its clock."""

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)

    def wait(self) -> None:
        """Until the device has done all that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], rounds: int) -> list[float]:
        """Seconds of each of ``rounds`` runs, after one that does not count."""
        taken = []
        for _ in range(rounds + 1):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - began)
        return taken[1:]

    def bandwidth(self, rounds: int) -> Spread:
        """Bytes a second that copying reads and writes."""
        source = torch.ones(COPIED_BYTES[self.device.type], dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return spread([2 * len(source) / one for one in self.seconds(lambda: target.copy_(source), rounds)])

    def describe(self) -> dict[str, Any]:
        """Name, memory and versions."""
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
            "cuda": torch.version.cuda if cuda else None,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


class Bench:
    """One model with random basis reward heads, and what is measured with it."""

    def __init__(self, size: Size, device: Device, dtype: torch.dtype, arguments: argparse.Namespace) -> None:
        self.size, self.device, self.dtype, self.arguments = size, device, dtype, arguments
        context = arguments.prompt + arguments.tokens + 8
        self.model: LanguageModel = random_model(size, context, device.device, dtype)
        self.heads = torch.randn(BASIS, size.hidden, device=device.device) / size.hidden**0.5
        rng = np.random.default_rng(0)
        self.prompt = [int(one) for one in rng.integers(0, size.vocabulary, arguments.prompt)]
        self.ids = torch.tensor([self.prompt], device=device.device)
        self.guide = Guide(self.model, random_values(BASIS, size.hidden, size.vocabulary))

    def prefill(self) -> Spread:
        """Prompt tokens a second."""
        taken = self.device.seconds(lambda: self.model.network.prefill(self.ids), self.arguments.rounds)
        return spread([len(self.prompt) / one for one in taken])

    def steps(self, rows: int, *, rewards: bool, graphs: bool) -> Spread:
        """Seconds of a decoding step of ``rows`` rows, the mean over ``--tokens`` steps, in each round."""
        tokens = self.arguments.tokens
        cache, _ = self.model.network.prefill(self.ids)
        memory = StaticMemory(cache, rows, tokens)
        step = DecodingStep(self.model.network, memory, self.heads if rewards else None, graphs=graphs)
        drawn = torch.zeros(rows, dtype=torch.long, device=self.device.device)

        def decode_all() -> None:
            memory.filled.zero_()
            for _ in range(tokens):
                step(drawn)

        return spread([one / tokens for one in self.device.seconds(decode_all, self.arguments.rounds)])

    def bound(self, rows: int, bandwidth: float) -> float:
        """Seconds in which the device reads what a step of ``rows`` rows needs, half of the tokens decoded."""
        width = torch.empty(0, dtype=self.dtype).element_size()
        in_use = len(self.prompt) + rows * self.arguments.tokens // 2
        return (width * self.size.parameters + self.size.key_value_bytes(in_use, width)) / bandwidth

    def served(self, calls: Sequence[Call], *, together: bool = True) -> Spread:
        """Tokens a second of the engine's loop for requests, each a number of candidates and whether to guide them."""
        seeds = iter(range(1_000_000))

        def serve() -> None:
            seed = next(seeds)
            groups = [calls] if together else [[call] for call in calls]
            for group in groups:
                self._serve([self._drawing(seed + number, *call) for number, call in enumerate(group)])

        tokens = sum(n for n, _ in calls) * self.arguments.tokens
        return spread([tokens / one for one in self.device.seconds(serve, self.arguments.rounds)])

    def _drawing(self, seed: int, n: int, guided: bool) -> Drawing:
        options = SamplingOptions(self.arguments.tokens, 0.8, 0.95, seed)
        steering = Steering(tuple([1.0] * BASIS), "token") if guided else None
        prompt = [*self.prompt[:-1], seed % self.size.vocabulary]
        return Drawing(prompt, n, options, self.model.tokenizer, steering=steering, guide=self.guide)

    def _serve(self, drawings: list[Drawing]) -> None:
        rows = sum(drawing.rows for drawing in drawings)
        scheduler = Scheduler(self.model, Heads(self.heads, np.zeros(BASIS)), guide=self.guide, max_rows=rows)
        for drawing in drawings:
            scheduler.start(drawing)
        while not all(drawing.finished for drawing in drawings):
            scheduler.step()
        if any(drawing.generated != drawing.n * self.arguments.tokens for drawing in drawings):
            raise SystemExit("A candidate stopped early.")


def spread(values: list[float]) -> Spread:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ratios and figures of one model."""
    bandwidth = bench.device.bandwidth(arguments.rounds)
    ratios: dict[str, Spread] = {}
    figures: dict[str, Any] = {"bytes_a_second": bandwidth, "prefill_tokens_a_second": bench.prefill()}
    kinds = {"eager": False, **({"graphs": True} if arguments.graphs else {})}
    for rows in arguments.rows:
        bound = bench.bound(rows, bandwidth["median"])
        found: dict[str, Any] = {"bound_seconds": bound}
        for kind, graphs in kinds.items():
            plain, read = (bench.steps(rows, rewards=rewards, graphs=graphs) for rewards in (False, True))
            found[kind] = {"step_seconds": plain, "step_with_rewards_seconds": read}
            found[kind]["tokens_a_second"] = rows / read["median"]
            ratios[f"share_of_bound_{kind}_{rows}"] = {key: bound / value for key, value in read.items()}
            ratios[f"reading_rewards_{kind}_{rows}"] = against(read, plain)
        figures[f"rows_{rows}"] = found
    for n in arguments.rows:
        plain, guided = bench.served([(n, False)]), bench.served([(n, True)])
        figures[f"best_of_{n}_tokens_a_second"] = {"plain": plain, "token_level": guided}
        ratios[f"token_level_over_plain_{n}"] = against(guided, plain)
    users = [(1, False)] * USERS
    together, alone = bench.served(users), bench.served(users, together=False)
    figures[f"{USERS}_users_tokens_a_second"] = {"together": together, "one_after_another": alone}
    ratios[f"{USERS}_users_together_over_one_after_another"] = against(together, alone)
    return {"ratios": ratios, "figures": figures}


def against(ours: Spread, theirs: Spread) -> Spread:
    """Ratio to the other side's median."""
    return {key: value / theirs["median"] for key, value in ours.items()}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="1b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default=None, help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens a candidate")
    parser.add_argument("--rows", type=lambda text: tuple(map(int, text.split(","))), default=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", action="store_true", help="measure the step as a CUDA graph as well")
    parser.add_argument("--json", type=Path, default=None, help="write the result to this file")
    parsed = parser.parse_args(arguments)
    if parsed.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; try --preset tiny --device cpu")
    if parsed.graphs and parsed.device != "cuda":
        parser.error("graphs need a GPU; leave --graphs out")
    return parsed


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run it, print the result, and write it where asked."""
    parsed = parse(arguments)
    device = Device(parsed.device)
    dtype = DTYPES[parsed.dtype or ("bfloat16" if parsed.device == "cuda" else "float32")]
    size = PRESETS[parsed.preset]
    bench = Bench(size, device, dtype, parsed)
    described = {"preset": parsed.preset, "parameters": size.parameters, "dtype": str(dtype)}
    result = {"benchmark": "gpu", "machine": device.describe(), "model": described, **measure(bench, parsed)}
    text = json.dumps(result, indent=2)
    print(text)
    if parsed.json is not None:
        parsed.json.write_text(text + "\n")
    return result


if __name__ == "__main__":
    main()
