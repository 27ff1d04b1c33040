"""The engine itself: several users at once, and steered against plain candidates."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.entities import Caller, CandidateSet, Message, SamplingOptions, Steering
from app.generation.transformers_engine import TransformersEngine
from app.rewards.artifact import BasisArtifact
from app.rewards.values import ValueHeads
from benchmarks.decode.endless import PROMPTS, TEMPERATURE, TOP_P
from benchmarks.decode.turns import Taken, timed

RANDOM_RANK = 32


class EngineSides:
    """An engine in its thread; every method takes one turn, and every turn has seeds of its own."""

    def __init__(
        self, model_directory: Path, basis: BasisArtifact, values: ValueHeads, *, tokens: int, threads: int
    ) -> None:
        self.loop, self.tokens, self.seed = asyncio.new_event_loop(), tokens, 0
        self.engine = TransformersEngine(
            model_directory, basis, values=values, threads=threads, cached_candidates=0, timeout_seconds=600
        )
        self.loop.run_until_complete(self.engine.start())
        self.coefficients = tuple(np.asarray(basis.basis.prior.population.mean).tolist())

    def close(self) -> None:
        """End the engine and its loop."""
        self.loop.run_until_complete(self.engine.close())
        self.loop.close()

    def users(self, users: int, n: int, *, together: bool) -> Taken:
        """One request from each of ``users`` for ``n`` candidates, all at once or one after another."""
        calls = [(user, n, None) for user in range(users)]
        return self._turn(calls, together=together)

    def steered(self, n: int, steering: Steering | None, users: int = 1) -> Taken:
        """Requests for ``n`` candidates with the same steering, all at once."""
        return self._turn([(user, n, steering) for user in range(users)], together=True)

    def token(self, strength: float = 1.0) -> Steering:
        """Token-level guidance by the population's coefficients."""
        return Steering(self.coefficients, "token", strength)

    def block(self, continuations: int) -> Steering:
        """Block-wise guidance by the population's coefficients."""
        return Steering(self.coefficients, "block", continuations=continuations)

    def early(self, drop_below: float) -> Steering:
        """Early stopping by the population's coefficients."""
        return Steering(self.coefficients, drop_below=drop_below)

    def drawn(self, n: int, steering: Steering | None) -> CandidateSet:
        """One request's candidates, for figures that are not times."""
        self.seed += 1
        return self.loop.run_until_complete(self._ask(0, n, steering))

    def _turn(self, calls: Sequence[tuple[int, int, Steering | None]], *, together: bool) -> Taken:
        self.seed += 1
        work = self._all_at_once(calls) if together else self._one_after_another(calls)
        return timed(lambda: self.loop.run_until_complete(work))

    async def _all_at_once(self, calls: Sequence[tuple[int, int, Steering | None]]) -> int:
        drawn = await asyncio.gather(*(self._ask(*call) for call in calls))
        return sum(one.completion_tokens for one in drawn)

    async def _one_after_another(self, calls: Sequence[tuple[int, int, Steering | None]]) -> int:
        return sum([(await self._ask(*call)).completion_tokens for call in calls])

    async def _ask(self, user: int, n: int, steering: Steering | None) -> CandidateSet:
        conversation = (Message("user", PROMPTS[user % len(PROMPTS)]),)
        options = SamplingOptions(self.tokens, TEMPERATURE, TOP_P, 1000 * self.seed + user, cacheable=False)
        return await self.engine.candidates(conversation, n, options, steering=steering, caller=Caller(f"user-{user}"))


def random_values(size: int, hidden: int, vocabulary: int, rank: int = RANDOM_RANK) -> ValueHeads:
    """Value heads of ``size`` basis rewards that say nothing, of the usual rank: for timing without others."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return (0.01 * rng.standard_normal(shape)).astype(np.float32)

    return ValueHeads(
        bounds=np.array([1, 32]),
        weight=noise(2, size, 2 * hidden),
        offset=noise(2, size),
        errors=np.tile(np.eye(size), (2, 1, 1)),
        action_states=noise(size, rank, hidden),
        action_offset=noise(size, rank),
        action_tokens=noise(vocabulary, rank),
        scale=1.0,
        frontier=(),
        manifest={},
    )
