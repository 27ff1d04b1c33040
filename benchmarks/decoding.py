"""Decoding: attune's loop and engine against transformers' ``generate``, against vLLM, and against themselves.

All sides run from the same float32 weights with the same sampling settings and take turns; every side decodes
just the tokens that are counted, or the run stops. Ratios say how many times as fast the first named side is, round by
round: in processor seconds of one thread (of all of vLLM's processes together), so that a busy machine changes little.
``figures`` has wall seconds as well.

Sections: ``best`` (best-of-N with basis rewards against ``generate``, and against not reading rewards), ``vllm`` (the
same against vLLM on the processor), ``guidance`` (token-level, block-wise, early stopping), ``users`` (eight at once
against one after another).

Example:
    python benchmarks/decoding.py --rounds 7 --json decoding.json
    python benchmarks/decoding.py --sections best,users
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.entities import Steering
from app.rewards.artifact import BasisArtifact, load_basis
from app.rewards.values import ValueHeads, load_values, values_directory
from benchmarks.decode.endless import endless_checkpoint
from benchmarks.decode.engine_side import EngineSides, random_values
from benchmarks.decode.loop_side import LoopSides
from benchmarks.decode.turns import Taken, Turn, faster, figures, machine, spread, take_turns
from benchmarks.decode.vllm_client import VllmMissing, VllmSide

BUNDLED = Path(__file__).parent.parent / "app" / "bundled"
USERS = 8
DROP_BELOW = 0.05


@dataclass
class Result:
    """What the sections add to; ``skipped`` tells why a section is missing."""

    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What all sections share; ``model`` never ends a response."""

    model: Path
    basis_directory: Path
    basis: BasisArtifact
    arguments: argparse.Namespace

    @property
    def n(self) -> int:
        """Candidates of a request in best-of-N."""
        return int(self.arguments.candidates)

    @property
    def tokens(self) -> int:
        """New tokens a candidate."""
        return int(self.arguments.tokens)

    def turns(self, sides: dict[str, Turn]) -> dict[str, list[Taken]]:
        """As many turns of each side as asked for."""
        return take_turns(sides, self.arguments.rounds)


def best(setting: Setting, result: Result) -> None:
    """Best-of-N in attune's loop, with and without rewards, against transformers."""
    sides = LoopSides(setting.model, setting.basis, setting.n, setting.tokens)
    taken = setting.turns(
        {
            "attune": sides.rewards,
            "attune_without_rewards": sides.texts,
            "generate": sides.generate,
            "generate_and_score": sides.generate_and_score,
        }
    )
    result.ratios |= {f"attune_over_{name}": faster(taken, "attune", name) for name in taken if name != "attune"}
    alone = take_turns({"one_candidate": sides.single}, setting.arguments.rounds)
    result.figures["best_of_n"] = figures({**taken, **alone}) | {"prompt_tokens": len(sides.prompt)}


def vllm(setting: Setting, result: Result) -> None:
    """Best-of-N with rewards against vLLM on the processor; vLLM with against without rewards.

    ``vllm_stock`` draws texts alone, by vLLM's own sampler.
    """
    ours = LoopSides(setting.model, setting.basis, setting.n, setting.tokens)
    log = Path(tempfile.gettempdir()) / "attune-vllm-side.log"
    theirs: VllmSide | None = None
    try:
        theirs = VllmSide(setting.arguments.model, setting.basis_directory, dtype="float32", log=log)
        ask = theirs.turn
        taken = setting.turns(
            {
                "attune": ours.rewards,
                "vllm": lambda: ask("rewards", ours.prompt, setting.n, setting.tokens),
                "vllm_without_rewards": lambda: ask("plain", ours.prompt, setting.n, setting.tokens),
                "vllm_stock": lambda: ask("stock", ours.prompt, setting.n, setting.tokens),
            }
        )
    except VllmMissing as error:
        result.skipped["vllm"] = str(error)
        return
    finally:
        if theirs is not None:
            theirs.close()
    result.ratios |= {
        "attune_over_vllm": faster(taken, "attune", "vllm"),
        "attune_over_vllm_stock": faster(taken, "attune", "vllm_stock"),
        "vllm_over_vllm_without_rewards": faster(taken, "vllm", "vllm_without_rewards"),
        "vllm_over_vllm_without_rewards_wall": faster(taken, "vllm", "vllm_without_rewards", "wall"),
    }
    result.figures["vllm"] = figures(taken)


def guidance(setting: Setting, result: Result) -> None:
    """Steered against plain candidates, in one engine."""
    values = _values(setting, result)
    engine = EngineSides(setting.model, setting.basis, values, tokens=setting.tokens, threads=setting.arguments.threads)
    try:
        for n in (1, setting.n):
            taken = setting.turns({"plain": _steered(engine, n, None), "token": _steered(engine, n, engine.token())})
            result.ratios[f"token_level_over_plain_{n}"] = faster(taken, "token", "plain")
            result.figures[f"token_level_{n}"] = figures(taken)
        for continuations in (2, 4):
            side = {"block": _steered(engine, 1, engine.block(continuations))}
            result.figures[f"block_wise_{continuations}"] = figures(setting.turns(side))
        _early(setting, engine, result)
    finally:
        engine.close()


def users(setting: Setting, result: Result) -> None:
    """Eight users at once against the same one after another, for one answer each and for best of 4 each."""
    values = _values(setting, result)
    engine = EngineSides(setting.model, setting.basis, values, tokens=setting.tokens, threads=setting.arguments.threads)
    try:
        for n in (1, 4):
            taken = setting.turns(
                {
                    "together": lambda n=n: engine.users(USERS, n, together=True),  # type: ignore[misc]
                    "one_after_another": lambda n=n: engine.users(USERS, n, together=False),  # type: ignore[misc]
                }
            )
            name = f"{USERS}_users_together_over_one_after_another_{n}"
            result.ratios[name] = faster(taken, "together", "one_after_another")
            result.ratios[f"{name}_wall"] = faster(taken, "together", "one_after_another", "wall")
            result.figures[f"{USERS}_users_best_of_{n}"] = figures(taken)
    finally:
        engine.close()


def _values(setting: Setting, result: Result) -> ValueHeads:
    """The basis' value heads; random ones of the usual size where it has none, which the result tells."""
    found = values_directory(setting.basis_directory)
    result.figures["value_heads"] = "the basis' own" if found else "random"
    size, hidden = setting.basis.heads.shape
    vocabulary = json.loads((setting.model / "config.json").read_text())["vocab_size"]
    return load_values(found) if found else random_values(size, hidden, vocabulary)


def _steered(engine: EngineSides, n: int, steering: Steering | None) -> Turn:
    return lambda: engine.steered(n, steering)


def _early(setting: Setting, engine: EngineSides, result: Result) -> None:
    """Early stopping decodes fewer tokens on purpose, so that its turns are compared as they are."""
    sides = {
        "whole": _steered(engine, setting.n, None),
        "stopped": _steered(engine, setting.n, engine.early(DROP_BELOW)),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for number in range(setting.arguments.rounds + 1):
        for name, side in sides.items():
            turn = side()
            if number:
                taken[name].append(turn)
    result.ratios[f"best_of_{setting.n}_dropping_below_{DROP_BELOW:g}_over_whole"] = faster(taken, "stopped", "whole")
    shares = [a.tokens / b.tokens for a, b in zip(taken["stopped"], taken["whole"], strict=True)]
    result.figures["early_stopping"] = figures(taken) | {"share_of_tokens": spread(shares)}


SECTIONS: dict[str, Callable[[Setting, Result], None]] = {
    "best": best,
    "vllm": vllm,
    "guidance": guidance,
    "users": users,
}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All sections asked for, as the benchmark's JSON."""
    result = Result()
    with endless_checkpoint(arguments.model) as model:
        setting = Setting(model, arguments.basis, load_basis(arguments.basis), arguments)
        for name in arguments.sections.split(","):
            SECTIONS[name](setting, result)
    for name, reason in result.skipped.items():
        print(f"SKIPPED {name}: {reason}.", file=sys.stderr)
    sizes = {"candidates": arguments.candidates, "tokens_each": arguments.tokens, "rounds": arguments.rounds}
    return {
        "benchmark": "decoding",
        "machine": machine(),
        "ratios": result.ratios,
        "figures": sizes | result.figures,
        "skipped": result.skipped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED / "model", help="checkpoint directory")
    parser.add_argument("--basis", type=Path, default=BUNDLED / "basis", help="basis artifact directory")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128, help="new tokens a candidate")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="processor threads of this process")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which parts to run, with commas between")
    parser.add_argument("--json", type=Path, default=None, help="write the result to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.sections.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {sorted(unknown)[0]!r}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(arguments.threads)
    text = json.dumps(run(arguments), indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
