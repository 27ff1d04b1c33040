"""What the scripted engine writes: texts and basis rewards that are functions of hashes. Knows no queue and no clock.

A word has a fixed vector (K,), and a text's basis rewards are ``SPREAD`` times the mean over its words, so that
steering has a known optimum: tilting every word by ``SPREAD / length`` of its reward is the KL-regularised best policy.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import erf, sqrt

import numpy as np
from jaxtyping import Float64, Int64

from app.entities import Candidate, Conversation, FinishReason, SamplingOptions, Steering

WORDS = (
    "a an and are as before begin bring calm careful clear day each easy enjoy evening every fine first for fresh "
    "gentle give good great help here home idea in is it keep kind learn light list little long look make maybe "
    "morning much need new next note often one open perhaps place plain plan please quick quiet read ready rest "
    "right see share short simple slow small sometimes soon start steady step still sure take talk thank that the "
    "then there think time to today together try two use usually very wait walk warm water way week well what when "
    "why will with wonderful work write you your "
).split()
SHORTEST, LONGEST = 6, 60
SPREAD = 4.0
CHECK_EVERY = 8
"""Words between two looks at which candidates may still become the best."""


@dataclass(frozen=True)
class Written:
    """One candidate, and how many words were written for it and thrown away."""

    candidate: Candidate
    discarded: int = 0


def write(
    conversation: Conversation, n: int, options: SamplingOptions, size: int, steering: Steering | None = None
) -> list[Written]:
    """``n`` candidates; number i depends on the conversation, ``options``, ``steering`` and i alone unless dropped.

    Args:
        conversation: What to answer; any text.
        n: How many candidates.
        options: Seed, longest length in words and stop strings; at temperature 0 all candidates are the same.
        size: K, the number of basis rewards.
        steering: How rewards act on the words, with K coefficients; with strength 0 not at all.

    Returns:
        The candidates in order. Those that early stopping drops are cut, with the rewards predicted for the whole.
    """
    drawn = [_write_one(conversation, number, options, size, steering) for number in range(n)]
    if steering is None or steering.drop_below <= 0.0:
        return drawn
    return _drop(drawn, np.array(steering.coefficients), steering.drop_below, min(LONGEST, options.max_tokens))


def rewards_of(text: str, size: int) -> Float64[np.ndarray, " basis"]:
    """Basis rewards (K,) of a text; zeros for one without words."""
    vectors = [_word_vector(word, size) for word in text.split()]
    return SPREAD * np.mean(vectors, axis=0) if vectors else np.zeros(size)


def words_of(conversation: Conversation) -> int:
    """Words in all messages."""
    return sum(len(message.content.split()) for message in conversation)


def _write_one(
    conversation: Conversation, number: int, options: SamplingOptions, size: int, steering: Steering | None
) -> Written:
    source = (options.seed, number) if options.temperature > 0 else ()
    rng = np.random.default_rng(_digest(repr((conversation, source))))
    count = int(rng.integers(SHORTEST, LONGEST))
    places = rng.integers(len(WORDS), size=count)
    copies = 1
    if steering is not None and steering.strength > 0.0:
        if steering.guidance == "token":
            places = _tilted(places, rng, steering, size)
        elif steering.guidance == "block":
            places, copies = _best_blocks(places, rng, steering, size), steering.continuations
    words = [WORDS[place] for place in places][: options.max_tokens]
    candidate = _finished(words, count, options, size)
    return Written(candidate, discarded=(copies - 1) * candidate.tokens)


def _finished(words: Sequence[str], count: int, options: SamplingOptions, size: int) -> Candidate:
    """The candidate of ``words``, of the ``count`` that it was going to have, cut before a stop string."""
    text = " ".join(words)
    finish: FinishReason = "stop" if len(words) == count else "length"
    stops = [place for place in map(text.find, options.stop) if place >= 0]
    if stops:
        text, finish = text[: min(stops)].strip(), "stop"
    return Candidate(text, len(text.split()), finish, rewards_of(text, size))


def _tilted(
    places: Int64[np.ndarray, " words"], rng: np.random.Generator, steering: Steering, size: int
) -> Int64[np.ndarray, " words"]:
    """Words drawn with probability in proportion to exp(strength * their part in the reward).

    Uses the draws of the plain words: a weak tilt changes few of them.
    """
    parts = SPREAD / len(places) * (_vectors(size) @ np.array(steering.coefficients))
    logits = steering.strength * parts
    chances = np.exp(logits - logits.max())
    uniforms = (places + rng.random(len(places))) / len(WORDS)
    found = np.searchsorted(np.cumsum(chances / chances.sum()), uniforms, side="right")
    return np.minimum(found, len(WORDS) - 1)


def _best_blocks(
    places: Int64[np.ndarray, " words"], rng: np.random.Generator, steering: Steering, size: int
) -> Int64[np.ndarray, " words"]:
    """Each block the best of ``continuations``, the plain one among them."""
    rewards = _vectors(size) @ np.array(steering.coefficients)
    others = rng.integers(len(WORDS), size=(steering.continuations - 1, len(places)))
    rows = np.vstack([places, others])
    blocks = [rows[:, start : start + steering.block_tokens] for start in range(0, len(places), steering.block_tokens)]
    return np.concatenate([block[int(np.argmax(rewards[block].sum(axis=1)))] for block in blocks])


def _drop(
    drawn: list[Written], coefficients: Float64[np.ndarray, " basis"], below: float, longest: int
) -> list[Written]:
    """Cut every candidate whose chance of overtaking the leader falls below ``below`` while it is being written."""
    drawn = list(drawn)
    for written in range(CHECK_EVERY, longest, CHECK_EVERY):
        live = [number for number, one in enumerate(drawn) if one.candidate.finish_reason != "dropped"]
        so_far = [_predicted(drawn[number].candidate, written, longest) for number in live]
        rewards = [(float(mean @ coefficients), std * float(np.linalg.norm(coefficients))) for mean, std in so_far]
        leader = max(rewards)
        for number, (mean, _), (reward, std) in zip(live, so_far, rewards, strict=True):
            unfinished = drawn[number].candidate.tokens > written
            if unfinished and _chance(reward - leader[0], sqrt(std**2 + leader[1] ** 2)) < below:
                drawn[number] = _cut(drawn[number], written, mean)
    return drawn


def _predicted(candidate: Candidate, written: int, longest: int) -> tuple[Float64[np.ndarray, " basis"], float]:
    """Final basis rewards expected after ``written`` words, and their standard deviation; exact for finished ones.

    A text has half of the words left that it may still have, each with a vector of mean 0 and variance 1.
    """
    if candidate.tokens <= written:
        return candidate.basis_rewards, 0.0
    left = (longest - written) / 2
    beginning = rewards_of(" ".join(candidate.text.split()[:written]), len(candidate.basis_rewards))
    return beginning * written / (written + left), SPREAD * sqrt(left) / (written + left)


def _cut(one: Written, written: int, predicted: Float64[np.ndarray, " basis"]) -> Written:
    text = " ".join(one.candidate.text.split()[:written])
    share = one.discarded // one.candidate.tokens
    dropped = replace(
        one.candidate, text=text, tokens=written, finish_reason="dropped", basis_rewards=np.asarray(predicted)
    )
    return Written(dropped, discarded=written * (share + 1))


def _chance(gap: float, std: float) -> float:
    """Probability that a normal variable of mean ``gap`` is not negative."""
    return 0.5 * (1.0 + erf(gap / (std * sqrt(2.0)))) if std > 0.0 else float(gap >= 0.0)


@lru_cache(maxsize=8)
def _vectors(size: int) -> Float64[np.ndarray, "words basis"]:
    return np.stack([_word_vector(word, size) for word in WORDS])


@lru_cache(maxsize=4096)
def _word_vector(word: str, size: int) -> Float64[np.ndarray, " basis"]:
    """A fixed standard normal vector for the word, cut to ``size``."""
    return np.random.default_rng(_digest(word)).standard_normal(size)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
