"""Opens the engine that the settings name, here or in another process, with the basis and question pool it belongs to.

A process whose engine runs elsewhere needs no torch: basis and pool are read with numpy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from app.backends import open_decoder
from app.config import EngineSettings
from app.entities import Axis, Basis, CandidatePair, FrontierPoint, Message, QuestionPool, SamplingOptions
from app.generation.observer import Unobserved
from app.http.engine_metrics import EngineCounters
from app.ports import Decoder
from app.preferences.answers import ResponseModel
from app.preferences.certainty import CertaintyCurve
from app.preferences.gaussian import Posterior
from app.preferences.pool_index import PoolIndex
from app.preferences.priors.gaussian import GaussianPrior

SCRIPTED_AXES = ("length", "warmth", "detail", "play")
SCRIPTED_MEAN = (0.4, 0.2, 0.1, -0.2)
SCRIPTED_TOPICS = {
    "home": ("How do I keep a plant alive?", "What can I cook tonight?", "How do I tidy a small room?"),
    "work": ("How do I say no politely?", "How do I begin a long report?", "How do I run a short meeting?"),
    "free time": ("What should I read next?", "How do I plan a weekend walk?", "How do I start to draw?"),
    "people": ("How do I thank a neighbour?", "How do I comfort a friend?", "How do I meet new people?"),
}
SCRIPTED_RESPONSES = 5
SCRIPTED = "scripted"
"""Version of the basis that the scripted engine pretends to have."""


class Engine(Decoder, EngineCounters, Protocol):
    """A decoder with an end and counters."""

    async def close(self) -> None:
        """Finish what runs, then stop."""


@dataclass(frozen=True)
class ActiveBasis:
    """Implements ``ports.BasisRegistry`` with one basis for the life of the process."""

    basis: Basis
    pool: QuestionPool
    frontier: Sequence[FrontierPoint] = ()

    @cached_property
    def index(self) -> PoolIndex:
        """The pool's pairs, sorted by how much answers to them can tell about anybody."""
        return PoolIndex.of(self.pool.differences, self.basis.prior.population)

    def prepare(self) -> None:
        """Derive all that choosing questions needs, so that nobody waits for it and a broken pool shows at once."""
        _ = self.index, self.pool.rows, self.pool.prompt_rows, self.pool.topics


async def open_engine(settings: EngineSettings, url: str | None = None) -> tuple[Engine, ActiveBasis]:
    """The engine, started, and its basis; with ``url``, the engine that runs there.

    Raises ``ArtifactError`` where they do not fit together, ``ConfigurationError`` where a library is missing,
    ``EngineUnreachable`` where nobody answers at ``url``.
    """
    active = None if settings.backend == "scripted" else load_active(settings)
    version = SCRIPTED if active is None else active.basis.version
    engine = await (_open_here(settings) if url is None else _connect(settings, url, version))
    try:
        return engine, active or await scripted_basis(engine)
    except BaseException:
        await engine.close()
        raise


def load_active(settings: EngineSettings) -> ActiveBasis:
    """Basis, question pool and measured frontier from their files; needs no torch."""
    from app.rewards.artifact import load_basis
    from app.rewards.pool import load_pool
    from app.rewards.values import load_values, values_directory

    basis = load_basis(settings.basis).basis
    values = values_directory(settings.basis)
    return ActiveBasis(
        basis, load_pool(settings.pool, basis), () if values is None else tuple(load_values(values).frontier)
    )


async def _open_here(settings: EngineSettings) -> Engine:
    return (await open_decoder(settings, Unobserved())).engine


async def _connect(settings: EngineSettings, url: str, basis_version: str) -> Engine:
    from app.generation.remote.remote_engine import RemoteEngine

    token = settings.token.get_secret_value() if settings.token else None
    engine = RemoteEngine(url, basis_version, token=token, timeout_seconds=settings.timeout_seconds)
    try:
        await engine.start()
    except BaseException:
        await engine.close()
        raise
    return engine


async def scripted_basis(decoder: Decoder) -> ActiveBasis:
    """A basis and a pool for the scripted engine: responses as it draws them, with the rewards that it gives them.

    Drawn by another one, since ``decoder`` may have been told to be slow, or to fail.
    """
    from app.generation.scripted import ScriptedEngine

    drawing = ScriptedEngine(size=len(SCRIPTED_AXES), basis_version=decoder.basis_version)
    pool, sets = await _scripted_pool(drawing)
    size = pool.differences.shape[1]
    basis = Basis(
        version=decoder.basis_version,
        model=decoder.model,
        axes=tuple(
            Axis(i, SCRIPTED_AXES[i], f"more {SCRIPTED_AXES[i]}", f"less {SCRIPTED_AXES[i]}") for i in range(size)
        ),
        prior=GaussianPrior(Posterior(mean=np.array(SCRIPTED_MEAN[:size]), precision=np.eye(size))),
        response=ResponseModel(),
        reference=pool.differences,
        certainty_curve=CertaintyCurve.identity(),
        candidate_sets=sets,
    )
    return ActiveBasis(basis, pool)


async def _scripted_pool(decoder: Decoder) -> tuple[QuestionPool, Float64[np.ndarray, "sets candidates basis"]]:
    """The pool, and the rewards of the responses to each of its prompts."""
    options = SamplingOptions(max_tokens=60, temperature=1.0, top_p=1.0, seed=0)
    pairs: list[CandidatePair] = []
    differences, sets = [], []
    prompts = [(topic, prompt) for topic, prompts in SCRIPTED_TOPICS.items() for prompt in prompts]
    for number, (topic, prompt) in enumerate(prompts):
        drawn = (await decoder.candidates((Message("user", prompt),), SCRIPTED_RESPONSES, options)).candidates
        sets.append([one.basis_rewards for one in drawn])
        for i, first in enumerate(drawn):
            for second in drawn[i + 1 :]:
                pairs.append(CandidatePair(len(pairs), topic, f"prompt-{number}", prompt, first.text, second.text))
                differences.append(first.basis_rewards - second.basis_rewards)
    return QuestionPool(decoder.basis_version, tuple(pairs), np.array(differences)), np.array(sets)
