"""Best-of-N decoding: attune's loop against transformers' ``generate``, in one process, taking turns.

Both sides draw the same number of tokens for the same prompt from the same float32 weights with the same sampling
settings, and no side may stop early. ``generate`` yields texts only; the second comparison adds the pass over the
finished texts that it needs for basis rewards, which attune's loop has read along the way.

Example:
    python benchmarks/decoding.py --threads 2 --rounds 7 --json decoding.json
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.entities import Candidate, Message, SamplingOptions
from app.generation.decoding import Heads, decode
from app.rewards.artifact import BasisArtifact, load_basis
from app.rewards.language import ChatTokenizer, LanguageModel, load_language_model

BUNDLED = Path(__file__).parent.parent / "app" / "bundled"
PROMPT = "I have a free afternoon and some fresh tomatoes. What could I cook for two friends who like simple food?"
TEMPERATURE, TOP_P = 0.8, 0.95


class Contest:
    """Both sides with one prompt; every method takes one turn and returns what it made."""

    def __init__(self, model_directory: Path, basis: BasisArtifact, candidates: int, tokens: int) -> None:
        loaded = load_language_model(model_directory)
        tokenizer = AutoTokenizer.from_pretrained(model_directory)
        endless = ChatTokenizer(tokenizer, (), loaded.network.shape.vocabulary)
        self.model = LanguageModel(loaded.network, endless, loaded.device, loaded.directory)
        self.heads, self.n, self.tokens, self.seed = Heads.on(loaded, basis), candidates, tokens, 0
        self.prompt = endless.prompt_ids((Message("user", PROMPT),))
        self.reference: Any = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32).eval()
        self.reference.generation_config.eos_token_id = None
        self.reference.generation_config.pad_token_id = 0

    def attune(self, n: int | None = None) -> list[Candidate]:
        """Texts with basis rewards, by attune's loop."""
        self.seed += 1
        options = SamplingOptions(self.tokens, TEMPERATURE, TOP_P, self.seed)
        return decode(self.model, self.heads, self.prompt, n or self.n, options, check=lambda: None)

    @torch.inference_mode()
    def generate(self) -> torch.Tensor:
        """Token ids (candidates, prompt and response) without rewards, by transformers."""
        prompt = torch.tensor([self.prompt])
        drawn: torch.Tensor = self.reference.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=0,
            num_return_sequences=self.n,
            max_new_tokens=self.tokens,
            suppress_tokens=list(self.model.tokenizer.banned_ids),
        )
        return drawn

    @torch.inference_mode()
    def generate_and_score(self) -> torch.Tensor:
        """Basis rewards (candidates, K) of texts by transformers."""
        states = self.reference.model(self.generate()).last_hidden_state[:, len(self.prompt) :]
        rewards: torch.Tensor = states.mean(dim=1) @ self.heads.weight.T
        return rewards

    def check(self) -> None:
        """Both sides draw all the tokens that are counted."""
        ours = [one.tokens for one in self.attune()]
        theirs = self.generate().shape
        if ours != [self.tokens] * self.n or theirs != (self.n, len(self.prompt) + self.tokens):
            raise SystemExit(f"A side stopped early: {ours} and {tuple(theirs)}.")


def seconds(turn: Callable[[], object]) -> float:
    began = time.perf_counter()
    turn()
    return time.perf_counter() - began


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(contest: Contest, rounds: int) -> dict[str, Any]:
    contest.check()
    contest.generate_and_score()
    turns: dict[str, Callable[[], object]] = {
        "attune": contest.attune,
        "generate": contest.generate,
        "generate_and_score": contest.generate_and_score,
    }
    times: dict[str, list[float]] = {name: [] for name in turns}
    single: list[float] = []
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name].append(seconds(turn))
        single.append(seconds(lambda: contest.attune(1)))
    drawn = contest.n * contest.tokens
    return {
        "ratios": {
            f"attune_over_{name}": spread([b / a for a, b in zip(times["attune"], times[name], strict=True)])
            for name in ("generate", "generate_and_score")
        },
        "figures": {
            "candidates": contest.n,
            "tokens_each": contest.tokens,
            "prompt_tokens": len(contest.prompt),
            "seconds": {name: spread(taken) for name, taken in times.items()},
            "tokens_per_second": {name: spread([drawn / one for one in taken]) for name, taken in times.items()},
            "seconds_for_one_candidate": spread(single),
        },
    }


def machine() -> dict[str, Any]:
    cpu = [line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return {
        "processor": cpu[0] if cpu else platform.processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED / "model", help="checkpoint directory")
    parser.add_argument("--basis", type=Path, default=BUNDLED / "basis", help="basis artifact directory")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96, help="new tokens a candidate")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None, help="processor threads; default: torch's choice")
    parser.add_argument("--json", type=Path, default=None, help="write the result to this file")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    contest = Contest(options.model, load_basis(options.basis), options.candidates, options.tokens)
    result = {"benchmark": "decoding", "machine": machine(), **measure(contest, options.rounds)}
    text = json.dumps(result, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
