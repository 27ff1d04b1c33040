"""What an artifact must know of the responses among which the service chooses: pairs to be certain about, and sets."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from app.entities import Conversation
from app.rewards.trunk import RESPONSE_MEAN, Row

REFERENCE_PAIRS = 512
CANDIDATE_SETS = 64
MOST_CANDIDATES = 8


@dataclass(frozen=True)
class Serving:
    """What an artifact holds besides what was fitted.

    ``reference`` are feature differences between responses as served, and ``candidate_sets`` features of responses to
    one prompt; ``trunk`` and ``pooling`` say where features come from, None for the language model itself.
    """

    model_name: str
    model_directory: Path
    reference: Float64[np.ndarray, "pairs hidden"]
    candidate_sets: Float64[np.ndarray, "sets candidates hidden"]
    trunk: Path | None = None
    pooling: str = RESPONSE_MEAN


def model_name(directory: Path) -> str:
    """What the checkpoint calls itself in ``training.json``, else the name of its directory."""
    facts = directory / "training.json"
    found = json.loads(facts.read_text()).get("name") if facts.is_file() else None
    return str(found or directory.resolve().name)


def candidate_sets(
    rows: list[Row], features: Float64[np.ndarray, "rows hidden"], rng: np.random.Generator
) -> Float64[np.ndarray, "sets candidates hidden"]:
    """Features of responses to one prompt, the same number for up to ``CANDIDATE_SETS`` prompts.

    The number, up to ``MOST_CANDIDATES``, is the largest that so many prompts have, or as many as possible; without
    prompts that have two responses there are no sets.
    """
    of_prompt: dict[Conversation, list[int]] = defaultdict(list)
    for row, (prompt, _) in enumerate(rows):
        of_prompt[prompt].append(row)
    groups = sorted((group for group in of_prompt.values() if len(group) >= 2), key=len, reverse=True)
    if not groups:
        return np.zeros((0, 2, features.shape[1]))
    size = min(MOST_CANDIDATES, len(groups[min(CANDIDATE_SETS, len(groups)) - 1]))
    enough = [group[:size] for group in groups if len(group) >= size]
    chosen = [enough[index] for index in rng.permutation(len(enough))[:CANDIDATE_SETS]]
    return np.asarray(features[np.array(chosen)], dtype=np.float64)


def reference_pairs(
    rows: list[Row], features: Float64[np.ndarray, "rows hidden"], rng: np.random.Generator
) -> Float64[np.ndarray, "pairs hidden"]:
    """Feature differences of up to ``REFERENCE_PAIRS`` random pairs of responses to one prompt."""
    numbers: dict[Conversation, int] = {}
    prompts = np.array([numbers.setdefault(prompt, len(numbers)) for prompt, _ in rows])
    order = np.lexsort((rng.random(len(rows)), prompts))
    pairs = np.flatnonzero(prompts[order][1:] == prompts[order][:-1])
    chosen = rng.permutation(pairs)[:REFERENCE_PAIRS]
    return np.asarray(features[order[chosen]] - features[order[chosen + 1]], dtype=np.float64)
