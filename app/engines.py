"""Builds the engine that the settings name, with the basis and the question pool that belong to it.

The engines' own modules are imported only when chosen: the scripted one starts on a machine without torch.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from app.api.metrics import EngineCounters
from app.config import EngineSettings
from app.entities import Axis, Basis, CandidatePair, Message, QuestionPool, SamplingOptions
from app.errors import ConfigurationError
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
ENGINE_LIBRARIES = frozenset({"torch", "transformers", "tokenizers"})


class Engine(Decoder, EngineCounters, Protocol):
    """A decoder with a beginning, an end and counters."""

    async def start(self) -> None:
        """Load everything; raises ``ArtifactError``."""

    async def close(self) -> None:
        """Finish what runs, then stop."""


@dataclass(frozen=True)
class ActiveBasis:
    """Implements ``ports.BasisRegistry`` with one basis for the life of the process."""

    basis: Basis
    pool: QuestionPool

    @cached_property
    def index(self) -> PoolIndex:
        """The pool's pairs, sorted by how much answers to them can tell about anybody."""
        return PoolIndex.of(self.pool.differences, self.basis.prior.population)

    def prepare(self) -> None:
        """Derive all that choosing questions needs, so that nobody waits for it and a broken pool shows at once."""
        _ = self.index, self.pool.rows, self.pool.prompt_rows, self.pool.topics


async def open_engine(settings: EngineSettings) -> tuple[Engine, ActiveBasis]:
    """The engine, started, and its basis.

    Raises ``ArtifactError`` where they do not fit together, ``ConfigurationError`` where a library is missing.
    """
    if settings.backend == "scripted":
        return await _open_scripted(settings)
    try:
        return await _open_transformers(settings)
    except ImportError as error:
        library = _missing_library(error)
        if library is None:
            raise
        raise ConfigurationError(
            f"The engine needs {library}, which cannot be imported here; run \"pip install 'attune[engine]'\", or set "
            f"ATTUNE_ENGINE__BACKEND=scripted to try the API without a model."
        ) from error


def _missing_library(error: BaseException | None) -> str | None:
    """The engine's library that an import failed for, also where another library reports it in its own words."""
    while error is not None:
        name = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        if name in ENGINE_LIBRARIES:
            return name
        error = error.__cause__
    return None


async def _open_transformers(settings: EngineSettings) -> tuple[Engine, ActiveBasis]:
    from app.generation.transformers_engine import TransformersEngine
    from app.rewards.artifact import load_basis
    from app.rewards.pool import load_pool

    artifact = load_basis(settings.basis)
    active = ActiveBasis(artifact.basis, load_pool(settings.pool, artifact.basis))
    engine = TransformersEngine(
        settings.model,
        artifact,
        threads=settings.threads,
        queue_size=settings.queue_size,
        timeout_seconds=settings.timeout_seconds,
        cached_candidates=settings.cached_candidates,
    )
    try:
        await engine.start()
    except BaseException:
        await engine.close()
        raise
    return engine, active


async def _open_scripted(settings: EngineSettings) -> tuple[Engine, ActiveBasis]:
    from app.generation.scripted import ScriptedEngine

    engine = ScriptedEngine(
        size=len(SCRIPTED_AXES), queue_size=settings.queue_size, timeout_seconds=settings.timeout_seconds
    )
    await engine.start()
    return engine, await scripted_basis(engine)


async def scripted_basis(decoder: Decoder) -> ActiveBasis:
    """A basis and a pool for the scripted engine: responses drawn by it, with the rewards that it gives them."""
    pool, sets = await _scripted_pool(decoder)
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
