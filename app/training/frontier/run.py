"""The frontier from beginning to end: artifacts in, figures out. Owns the engine while it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.errors import InvalidInput
from app.generation.transformers_engine import TransformersEngine
from app.rewards.artifact import BasisArtifact, load_basis
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.pool import load_pool
from app.rewards.values import load_values, values_directory
from app.training.bundle import generation_prompts
from app.training.frontier.arms import Cell
from app.training.frontier.draws import Sampling, conversation
from app.training.frontier.figures import Fluency
from app.training.frontier.fluency import log_probabilities, repetition
from app.training.frontier.measure import CellResult, Frontier, Measured, Sizes, sample_places
from app.training.frontier.people import OfflineRegistry, get_to_know
from app.training.people import SimulatedPeople, draw_tastes
from app.training.properties import PropertyScale

TIMEOUT_SECONDS = 3600.0
QUEUE_SIZE = 4096
READ = 200
"""Texts of a cell whose fluency is measured, the same prompts and people for all cells."""
PROMPT_SEED = 2027
_ALL = 10**9
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Artifacts:
    """Directories of what is measured."""

    model: Path
    basis: Path
    pool: Path


@dataclass(frozen=True)
class FrontierOptions:
    """Size of a run. Every seed draws ``people`` new people with new prompts; ``questions`` they answer before."""

    people: int = 40
    seeds: int = 1
    seed: int = 2024
    questions: int = 10
    rule: str = "v_optimal"
    sizes: Sizes = field(default_factory=Sizes)
    max_tokens: int = 128
    temperature: float = 0.8
    top_p: float = 0.95
    threads: int = 1


def training_prompts(data: Path, basis: Path, count: int = 400) -> list[str]:
    """Prompts of the training split, for choices that must not be made on held-out ones.

    Those that the value heads of ``basis`` learned from are left out as far as their card tells: on these they would
    look better than they are.
    """
    everything = generation_prompts(data, _ALL, np.random.default_rng(PROMPT_SEED))
    heads = values_directory(basis)
    told = {} if heads is None else load_values(heads).manifest["provenance"]
    learned: set[str] = set()
    if {"prompts", "seed"} <= set(told):
        learned.update(generation_prompts(data, int(told["prompts"]), np.random.default_rng([int(told["seed"]), 1])))
    return [prompt for prompt in everything if prompt not in learned][:count]


async def run_frontier(
    artifacts: Artifacts,
    prompts: Sequence[str],
    cells: Sequence[Cell],
    options: FrontierOptions,
    progress: Progress,
) -> tuple[Measured, dict[str, Fluency]]:
    """Measure ``cells`` with simulated people whose tastes are over the properties that the basis was learned with.

    Raises:
        ArtifactError: If an artifact is missing, broken, or made for another one.
        InvalidInput: If there are too few prompts, or the basis names no properties of text.
    """
    artifact = load_basis(artifacts.basis)
    registry = OfflineRegistry(artifact.basis, load_pool(artifacts.pool, artifact.basis))
    scale = property_scale(artifact)
    engine = open_engine(artifacts, artifact, options.threads)
    await engine.start()
    measured = Measured()
    try:
        for seed in range(options.seed, options.seed + options.seeds):
            judge = SimulatedPeople(draw_tastes(options.people, np.random.default_rng(seed)), scale)
            people = get_to_know(
                registry, judge, options.people, questions=options.questions, rule=options.rule, seed=seed
            )
            sampling = Sampling(options.max_tokens, options.temperature, options.top_p, 10_000 * seed)
            population = artifact.basis.prior.population
            frontier = Frontier(engine, people, judge, prompts, population, sampling, options.sizes)
            await frontier.run(cells, measured, progress)
    finally:
        await engine.close()
    model = load_language_model(artifacts.model)
    return measured, {name: read(model, one) for name, one in measured.cells.items()}


def property_scale(artifact: BasisArtifact) -> PropertyScale:
    """What the simulated people's tastes are measured on: the scale that the basis' manifest has."""
    found = artifact.manifest["provenance"].get("property_scale")
    if found is None:
        raise InvalidInput(f"Basis {artifact.basis.version} has no property_scale; fit it with 'attune basis' again.")
    return PropertyScale.load(found)


def open_engine(artifacts: Artifacts, artifact: BasisArtifact, threads: int) -> TransformersEngine:
    """The engine that serves, with the value heads that the basis has, if any, and room for many requests together."""
    heads = values_directory(artifacts.basis)
    return TransformersEngine(
        artifacts.model,
        artifact,
        values=None if heads is None else load_values(heads),
        threads=threads,
        queue_size=QUEUE_SIZE,
        timeout_seconds=TIMEOUT_SECONDS,
        cached_candidates=0,
    )


def read(model: LanguageModel, result: CellResult) -> Fluency:
    """Fluency of some of a cell's texts."""
    some = [result.texts[place] for place in sample_places(len(result.texts), READ)]
    found = log_probabilities(model, [(conversation(prompt), text) for prompt, text in some])
    return Fluency(float(np.nanmean(found)), float(np.mean([repetition(text) for _, text in some])))
