"""One engine of vLLM that takes turns on request, so that another process can time both sides of a comparison fairly.

Runs in the environment that has vLLM. Every line on standard input is a JSON object and gets one on standard output.
The first answer tells that the engine is ready. A turn draws ``n`` texts of exactly ``tokens`` tokens from one prompt:

    {"turn": "rewards", "n": 16, "tokens": 128, "seed": 1, "prompt_ids": [1, 2, 3]}
    -> {"seconds": 0.9, "cpu_seconds": 0.9, "tokens": 2048}

``rewards`` draws as attune's engine does and reads the basis rewards; ``plain`` draws in the same way and reads
nothing; ``stock`` leaves the drawing to vLLM's own sampler, with a seed for each text. Processor time is that of all
processes.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from app.config import BUNDLED
from app.entities import SamplingOptions
from app.generation.vllm.vllm_client import Draw, VllmClient
from app.rewards.artifact import load_basis
from app.rewards.export import export_checkpoint


class Side:
    """The engine with its processes."""

    def __init__(self, client: VllmClient) -> None:
        self.client = client

    async def turn(self, asked: dict[str, Any]) -> dict[str, float]:
        """Draw, and tell what it took."""
        options = SamplingOptions(
            max_tokens=asked["tokens"],
            temperature=asked.get("temperature", 1.0),
            top_p=asked.get("top_p", 1.0),
            seed=asked["seed"],
        )
        draw = {"rewards": self._rewards, "plain": self._plain, "stock": self._stock}[asked["turn"]]
        began, used = time.perf_counter(), _cpu_seconds()
        tokens = await draw(asked["prompt_ids"], asked["n"], options)
        taken = {"seconds": time.perf_counter() - began, "cpu_seconds": _cpu_seconds() - used, "tokens": tokens}
        if tokens != asked["n"] * asked["tokens"]:
            raise RuntimeError(f"{tokens} tokens were drawn, not {asked['n'] * asked['tokens']}: a text ended early")
        return taken

    async def _rewards(self, prompt: list[int], n: int, options: SamplingOptions) -> int:
        keys = [self.client.new_key() for _ in range(n)]
        drawn = await self._draw(keys, prompt, options)
        readings = await self.client.read(keys, [options.max_tokens] * n)
        if readings.shape[0] != n:
            raise RuntimeError("rewards are missing")
        return drawn

    async def _plain(self, prompt: list[int], n: int, options: SamplingOptions) -> int:
        keys = [self.client.new_key() for _ in range(n)]
        drawn = await self._draw(keys, prompt, options, keeps=False)
        return drawn + n  # without rewards no text needs the token that is drawn for its last row

    async def _draw(self, keys: list[str], prompt: list[int], options: SamplingOptions, *, keeps: bool = True) -> int:
        most = options.max_tokens if keeps else options.max_tokens - 1
        draws = [Draw(number, options, 0, most, keeps=keeps) for number in range(len(keys))]
        texts = await asyncio.gather(
            *(self.client.draw(key, prompt, draw) for key, draw in zip(keys, draws, strict=True))
        )
        return sum(min(len(text), most) for text in texts)

    async def _stock(self, prompt: list[int], n: int, options: SamplingOptions) -> int:
        seeds = range(options.seed * 1000, options.seed * 1000 + n)
        return sum(await asyncio.gather(*(self.client.draw_stock(prompt, replace(options, seed=one)) for one in seeds)))


def _cpu_seconds() -> float:
    """Processor time of this process and all that it started."""
    total = 0.0
    for process in (own := psutil.Process(), *own.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


async def run(arguments: argparse.Namespace, answers: Any) -> None:
    basis = load_basis(arguments.basis)
    with tempfile.TemporaryDirectory() as directory:
        export = export_checkpoint(arguments.model, basis, Path(directory) / "export")
        # Nothing ends a text before its last token, so that all turns do the same work.
        client = VllmClient(
            replace(export, end_ids=()),
            most_rows=arguments.rows,
            dtype=arguments.dtype,
            options={"enforce_eager": arguments.eager},
        )
        await client.start()
        try:
            print(json.dumps({"ready": True}), file=answers, flush=True)
            side = Side(client)
            while line := await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps(await side.turn(json.loads(line))), file=answers, flush=True)
        finally:
            await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED / "model", help="checkpoint")
    parser.add_argument("--basis", type=Path, default=BUNDLED / "basis", help="basis artifact")
    parser.add_argument("--dtype", default="float32", help="precision, as vLLM names it")
    parser.add_argument("--rows", type=int, default=64, help="texts decoded together")
    parser.add_argument("--eager", action="store_true", help="do not compile: starts faster, runs slower")
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # whatever libraries print goes to standard error
    os.dup2(2, 1)
    asyncio.run(run(arguments, answers))


if __name__ == "__main__":
    main()
