"""From comparisons to an artifact: for any comparison data, and for the bundled basis."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from app.errors import InvalidInput
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.pool import PoolPrompt, read_prompts
from app.rewards.scorer import pooled_features
from app.training.bundle import (
    Group,
    Texts,
    generation_prompts,
    pool_groups,
    real_comparisons,
    real_groups,
    simulated_comparisons,
    user,
)
from app.training.dataset import ComparisonData
from app.training.fit import Splits, fit_basis
from app.training.generate import generate
from app.training.pool import score_pool
from app.training.properties import PropertyScale
from app.training.publish import publish_basis

REFERENCE_PAIRS = 512
FEWEST_PEOPLE = 10


def fit_from_comparisons(
    data: ComparisonData, model_directory: Path, out: Path, *, rank: int, seed: int
) -> BasisArtifact:
    """Fit a basis on any comparison data and write its artifact.

    Raises:
        InvalidInput: If there are too few people to hold some out.
    """
    rng = np.random.default_rng(seed)
    model = load_language_model(model_directory)
    given = len(data)
    data = data.only(_fitting(model, data))
    if len(data.names) < FEWEST_PEOPLE:
        raise InvalidInput(f"{len(data.names)} people are too few to hold some out; {FEWEST_PEOPLE} are needed.")
    features = pooled_features(model, data.rows).astype(np.float64)
    scale = PropertyScale.of([text for _, text in data.rows])
    chosen = rng.permutation(len(data))[:REFERENCE_PAIRS]
    reference = features[data.first[chosen]] - features[data.second[chosen]]
    fitted = fit_basis(data, features, Splits.draw(data, rng), rank=rank, scale=scale, seed=seed)
    dropped = given - len(data)
    return publish_basis(
        fitted,
        out,
        model_name=model_name(model_directory),
        model_directory=model_directory,
        reference=reference,
        scale=scale,
        provenance={"people": len(data.names), "comparisons": len(data), "texts": len(data.rows), "seed": seed},
        notes=[
            f"Learned from {len(data)} comparisons by {len(data.names)} people over {len(data.rows)} texts; {dropped} "
            f"more were left out because a text and its prompt exceed the model's context of {model.context} tokens."
        ],
    )


def model_name(directory: Path) -> str:
    """What the checkpoint calls itself in ``training.json``, else the name of its directory."""
    facts = directory / "training.json"
    found = json.loads(facts.read_text()).get("name") if facts.is_file() else None
    return str(found or directory.resolve().name)


@dataclass(frozen=True)
class BundleRecipe:
    """Sizes of the bundled basis' training data."""

    rank: int = 10
    people: int = 3000
    prompts: int = 500
    responses: int = 8
    seed: int = 5


def bundle_basis(
    data: Path, model_directory: Path, out: Path, recipe: BundleRecipe, progress: Callable[[], None]
) -> tuple[BasisArtifact, int]:
    """Generate, simulate, fit and score: writes ``out/basis`` and ``out/pool``; returns the artifact and the pairs."""
    rng = np.random.default_rng(recipe.seed)
    model = load_language_model(model_directory)
    pool = read_prompts(out / "pool/pool.json")
    texts = _texts(data, model, pool, recipe, rng, progress)
    scale = texts.scale()
    comparisons = [*simulated_comparisons(texts, recipe.people, rng), *real_comparisons(data)]
    table = ComparisonData.of(comparisons)
    table = table.only(_fitting(model, table))
    features = pooled_features(model, table.rows).astype(np.float64)
    reference = _reference(model, texts.own, rng)
    served = np.array([name.startswith("sim:") for name in table.names])
    own = {(prompt, text) for prompt, responses in texts.own for text in responses}
    fitted = fit_basis(
        table,
        features,
        Splits.draw(table, rng, training_only={prompt for prompt, _ in texts.real}),
        rank=recipe.rank,
        scale=scale,
        seed=recipe.seed,
        served=served,
        as_served=np.array([row in own for row in table.rows]),
    )
    simulated = int(served.sum())
    artifact = publish_basis(
        fitted,
        out / "basis",
        model_name=model_name(model_directory),
        model_directory=model_directory,
        reference=reference,
        scale=scale,
        provenance={**asdict(recipe), "simulated_people": simulated, "real_people": len(table.names) - simulated},
        notes=_notes(table, simulated, texts),
    )
    return artifact, score_pool(model, artifact, pool, out / "pool")


def _texts(
    data: Path,
    model: LanguageModel,
    pool: Sequence[PoolPrompt],
    recipe: BundleRecipe,
    rng: np.random.Generator,
    progress: Callable[[], None],
) -> Texts:
    prompts = [user(text) for text in generation_prompts(data, recipe.prompts, rng)]
    drawn = generate(
        model, prompts, recipe.responses, temperatures=(0.8, 0.8, 1.0), seed=recipe.seed, progress=progress
    )
    groups = ((prompt, _distinct([one.text for one in many])) for prompt, many in zip(prompts, drawn, strict=True))
    own = [group for group in groups if len(group[1]) >= 2]
    return Texts(own, real_groups(data), pool_groups(pool))


def _distinct(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _fitting(model: LanguageModel, data: ComparisonData) -> Bool[np.ndarray, " rows"]:
    """Which rows fit into the model's context, prompt and response together."""
    tokenizer = model.tokenizer
    lengths = [len(tokenizer.prompt_ids(prompt)) + len(tokenizer.response_ids(text)) for prompt, text in data.rows]
    return np.array(lengths) <= model.context


def _reference(
    model: LanguageModel, groups: Sequence[Group], rng: np.random.Generator
) -> Float64[np.ndarray, "pairs hidden"]:
    """Feature differences of random pairs of the model's own responses to one prompt."""
    pairs = [(prompt, *pair) for prompt, texts in groups for pair in combinations(texts, 2)]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:REFERENCE_PAIRS]]
    rows = [(prompt, text) for prompt, first, second in chosen for text in (first, second)]
    features = pooled_features(model, rows).astype(np.float64)
    return features[0::2] - features[1::2]


def _notes(table: ComparisonData, simulated: int, texts: Texts) -> list[str]:
    real = len(table.names) - simulated
    return [
        f"Learned from {len(table)} comparisons over {len(table.rows)} texts by {simulated} **simulated** people, with "
        "tastes over ten measurable properties of text (`app/training/people.py`) and Bradley-Terry noise, on the "
        f"model's own responses ({len(texts.own)} prompts), real replies ({len(texts.real)} prompts) and the question "
        f"pool ({len(texts.pool)} prompts); and by {real} **real** people of UKPConvArg1, who said which argument is "
        "more convincing. The heads are learned from both; prior and calibration are those of the simulated people. "
        "Four fifths of the people are used for the fit, a tenth for calibration, a tenth for the scores below.",
    ]
