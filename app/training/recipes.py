"""From comparisons to an artifact: for any comparison data, and for the bundled basis."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from app.errors import InvalidInput
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.pool import PoolPrompt, read_prompts
from app.rewards.scorer import LanguageModelTrunk
from app.rewards.trunk import Row, Trunk
from app.training.bundle import (
    SIMULATED,
    Texts,
    generation_prompts,
    pool_groups,
    real_comparisons,
    real_groups,
    simulated_comparisons,
    simulated_part,
    user,
)
from app.training.dataset import ComparisonData
from app.training.features import compute_features
from app.training.fit import Setup, fit_basis, training_data
from app.training.generate import generate
from app.training.methods import BasisMethod, Pref, Run, TrainingData, named_method
from app.training.methods.choose import RANKS, choose_rank, choose_spread, ranked
from app.training.methods.common_spread import choose_common_spread
from app.training.methods.data import check_rank
from app.training.methods.personal import UserModel
from app.training.pool import score_pool
from app.training.properties import PropertyScale
from app.training.publish import data_sha256, publish_basis
from app.training.serving import Serving, candidate_sets, model_name, reference_pairs
from app.training.splits import Splits
from app.training.trunks import TrunkChoice, open_trunk

FEWEST_PEOPLE = 10
AS_SERVED = TrunkChoice()

Steps = Callable[[str, int, int], None]
"""Told after each piece of work: the step's name, the pieces done, and how many there are (0 if nobody knows)."""


def unseen(step: str, done: int, total: int) -> None:
    """Steps that nobody watches."""


def fit_from_comparisons(
    data: ComparisonData,
    model_directory: Path,
    out: Path,
    *,
    method: str = "variational",
    rank: int | None = None,
    user_model: UserModel = "individual",
    alpha: float = 0.5,
    trunk: TrunkChoice = AS_SERVED,
    checkpoint: Path | None = None,
    seed: int = 0,
    progress: Steps = unseen,
) -> BasisArtifact:
    """Fit a basis on any comparison data and write its artifact.

    Args:
        data: Comparisons; those with a text beyond the trunk's context are left out.
        model_directory: The language model that generates.
        out: Directory of the artifact.
        method: One of ``methods.named.METHODS``.
        rank: K; None lets held-out training people choose.
        user_model: How people differ, for ``p-rm``.
        alpha: Weight of the personal part of the loss, for ``p-rm``.
        trunk: What computes the features.
        checkpoint: Where the fit saves its state, and goes on if there is one.
        seed: Seeds splits, tuning, initialisation and bootstrap.
        progress: Called after every piece of work.

    Raises:
        InvalidInput: If there are too few people to hold some out or for ``rank``, nobody preferred anything, or
            ``checkpoint`` is of another fit.
    """

    def tuned_on(by: Trunk) -> ComparisonData:
        known, drawn = _usable(by, data, seed)
        return known.take(drawn.training(known))

    opened = open_trunk(
        trunk, model_directory, out, tuned_on, seed=seed, progress=lambda done, total: progress("tuning", done, total)
    )
    used, splits = _usable(opened.trunk, data, seed)
    features = compute_features(
        opened.trunk, used.rows, cache=trunk.cache, progress=lambda done, total: progress("features", done, total)
    ).astype(np.float64)
    rng = np.random.default_rng(seed)
    chosen = _method(training_data(used, features, splits), method, rank, user_model, alpha, rng)
    run = Run(checkpoint, progress=lambda iteration, _: progress("fit", iteration, 0))
    scale = PropertyScale.of([text for _, text in used.rows])
    return publish_basis(
        fit_basis(used, features, splits, Setup(chosen, scale, seed, run=run)),
        out,
        Serving(
            model_name(model_directory),
            model_directory,
            reference_pairs(used.rows, features, rng),
            candidate_sets(used.rows, features, rng),
            opened.directory,
            opened.trunk.pooling,
        ),
        scale=scale,
        provenance={**_size(used), "seed": seed},
        notes=[
            f"Learned from {len(used)} comparisons by {len(used.names)} people over {len(used.rows)} texts; "
            f"{len(data) - len(used)} more were left out because a text and its prompt exceed the context of "
            f"{opened.trunk.context} tokens."
        ],
    )


def _usable(trunk: Trunk, data: ComparisonData, seed: int) -> tuple[ComparisonData, Splits]:
    """The comparisons whose texts the trunk can read, and who and what of them is held out."""
    used = data.only(fitting(trunk, data))
    if len(used.names) < FEWEST_PEOPLE:
        raise InvalidInput(f"{len(used.names)} people are too few to hold some out; {FEWEST_PEOPLE} are needed.")
    splits = Splits.draw(used, np.random.default_rng(seed))
    told = (used.labels != 0.5) & (used.first != used.second)
    if not (splits.training(used) & told).any():
        raise InvalidInput(
            f"Nobody preferred anything in the part to learn from: of {len(used)} comparisons in all, {told.sum()} "
            "prefer one text to another; add some that do."
        )
    return used, splits


def _method(
    data: TrainingData, name: str, rank: int | None, user_model: UserModel, alpha: float, rng: np.random.Generator
) -> BasisMethod:
    """The method asked for, with the settings that predict held-out texts and training people best; K unless given."""
    method = named_method(name, rank or 1, user_model=user_model, alpha=alpha)
    try:
        check_rank(method.rank, data)
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    method = choose_common_spread(data, method, rng)
    if rank is None:
        method = ranked(method, choose_rank(data, method, RANKS, rng)[0])
    return choose_spread(data, method, rng)


def fitting(trunk: Trunk, data: ComparisonData) -> Bool[np.ndarray, " rows"]:
    """Which rows fit into the trunk's context, prompt and response together."""
    return np.asarray(trunk.token_counts(data.rows) <= trunk.context)


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
    trunk = LanguageModelTrunk(model)
    pool = read_prompts(out / "pool/pool.json")
    texts = _texts(data, model, pool, recipe, rng, progress)
    table = ComparisonData.of([*simulated_comparisons(texts, recipe.people, rng), *real_comparisons(data)])
    table = table.only(fitting(trunk, table))
    features = compute_features(trunk, table.rows).astype(np.float64)
    simulated = {name: simulated_part(name) for name in table.names if name.startswith(SIMULATED)}
    splits = Splits.draw(table, rng, training_only={prompt for prompt, _ in texts.real}, decided=simulated)
    own = {(prompt, text) for prompt, responses in texts.own for text in responses}
    as_served = np.array([row in own for row in table.rows])
    setup = Setup(
        Pref(recipe.rank),
        texts.scale(),
        recipe.seed,
        served=np.array([name in simulated for name in table.names]),
        as_served=as_served,
    )
    served_rows: list[Row] = [table.rows[index] for index in np.flatnonzero(as_served)]
    artifact = publish_basis(
        fit_basis(table, features, splits, setup),
        out / "basis",
        Serving(
            model_name(model_directory),
            model_directory,
            reference_pairs(served_rows, features[as_served], rng),
            candidate_sets(served_rows, features[as_served], rng),
        ),
        scale=setup.scale,
        provenance={
            **asdict(recipe),
            **_size(table),
            "simulated_people": len(simulated),
            "real_people": len(table.names) - len(simulated),
        },
        notes=_notes(table, len(simulated), texts),
    )
    return artifact, score_pool(model, artifact, pool, out / "pool")


def _size(data: ComparisonData) -> dict[str, object]:
    return {
        "people": len(data.names),
        "comparisons": len(data),
        "texts": len(data.rows),
        "data_sha256": data_sha256(data),
    }


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


def _notes(table: ComparisonData, simulated: int, texts: Texts) -> list[str]:
    real = len(table.names) - simulated
    writers = sum(about is not None for about in table.about)
    return [
        f"Learned from {len(table)} comparisons over {len(table.rows)} texts by {simulated} **simulated** people, with "
        "tastes over ten measurable properties of text (`app/training/people.py`) and Bradley-Terry noise, on the "
        f"model's own responses ({len(texts.own)} prompts), real replies ({len(texts.real)} prompts) and the question "
        f"pool ({len(texts.pool)} prompts); and by {real} **real** people of UKPConvArg1, who said which argument is "
        "more convincing. The heads are learned from both; prior and calibration are those of the simulated people. "
        f"{writers} of them wrote a few words of themselves, from templates; held-out people use templates of their "
        "own. Four fifths of the people are used for the fit, a tenth for calibration, a tenth for the scores below.",
    ]
