"""From prompts to value heads beside a basis: rollouts, both fits, their scores, the scale, and the card."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from app.entities import Conversation
from app.errors import InvalidInput
from app.rewards.artifact import VALUES, BasisArtifact, check_model, load_basis
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.values import ValueHeads, check_values, save_values
from app.training.values.actions import ActionHeads, ActionSettings, fit_action_heads
from app.training.values.card import write_card
from app.training.values.finals import final_rewards
from app.training.values.prefixes import fit_prefix_heads
from app.training.values.rollouts import MAX_TOKENS, roll_out
from app.training.values.scores import prefix_errors, score_actions, score_prefixes
from app.training.values.table import VALIDATION, StateTable, state_table
from app.training.values.trials import PROMPTS, choose_scale, try_scales

Steps = Callable[[str, int, int], None]
FEWEST_PROMPTS = 20


@dataclass(frozen=True)
class ValueRecipe:
    """How much is written to learn from, and how the heads are fitted.

    The states of all tokens, and of as many that might have come instead, are held in memory at two bytes a number.
    """

    responses: int = 4
    max_tokens: int = MAX_TOKENS
    seed: int = 0
    actions: ActionSettings = field(default_factory=ActionSettings)


def fit_value_heads(
    basis_directory: Path,
    model_directory: Path,
    prompts: Sequence[Conversation],
    recipe: ValueRecipe,
    *,
    device: str | None = None,
    progress: Steps = lambda *_: None,
) -> ValueHeads:
    """Learn value heads from the model's own responses to ``prompts`` and add them to the basis artifact.

    Args:
        basis_directory: The artifact, whose value heads are replaced, their measured frontier included.
        model_directory: The language model that it was made for.
        prompts: Conversations to answer; four fifths are learned from, a tenth chooses, a tenth tests.
        recipe: Sizes, seed and settings.
        device: Where the model runs and the heads are fitted, as torch names it; None takes a GPU if there is one.
        progress: Called after every piece of work.

    Raises:
        ArtifactError: If basis or model are missing or damaged.
        ArtifactIncompatible: If the basis was made for another model.
        InvalidInput: If there are too few prompts.
    """
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < FEWEST_PROMPTS:
        raise InvalidInput(f"{len(distinct)} different prompts are too few for value heads; give {FEWEST_PROMPTS}.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    artifact = load_basis(basis_directory)
    check_model(artifact.manifest, model_directory)
    model = load_language_model(model_directory, device=device)
    table = _table(model, artifact, distinct, recipe, progress)
    prefixes = fit_prefix_heads(table, device=device)
    actions = fit_action_heads(
        table,
        prefixes,
        model.network.shape.vocabulary,
        recipe.actions,
        seed=recipe.seed,
        device=device,
        progress=lambda done, total: progress("next tokens", done, total),
    )
    held = [distinct[number] for number in dict.fromkeys(table.prompts[table.parts == VALIDATION])][:PROMPTS]
    trials = try_scales(
        model,
        artifact,
        actions,
        held,
        max_tokens=recipe.max_tokens,
        seed=recipe.seed,
        progress=lambda done, total: progress("scales", done, total),
    )
    naive = None if artifact.trunk is not None else (artifact.heads.astype(np.float64), artifact.offset)
    scores = score_prefixes(table, prefixes, naive), score_actions(table, prefixes, actions)
    values = save_values(
        Path(basis_directory) / VALUES,
        artifact=artifact,
        model_directory=model_directory,
        bounds=prefixes.bounds,
        weight=prefixes.weight,
        offset=prefixes.offset,
        errors=prefix_errors(table, prefixes),
        **_action_arrays(actions, model.tokenizer.end_ids),
        scale=choose_scale(trials),
        max_tokens=recipe.max_tokens,
        provenance={**_size(table, len(distinct)), **asdict(recipe), "penalties": list(prefixes.penalties)},
    )
    check_values(values, artifact, model_directory)
    write_card(Path(basis_directory) / VALUES, values, *scores, trials)
    return values


def _table(
    model: LanguageModel,
    artifact: BasisArtifact,
    prompts: Sequence[Conversation],
    recipe: ValueRecipe,
    progress: Steps,
) -> StateTable:
    """What the model writes to the prompts, with its rewards; the rollouts themselves are dropped."""
    rollouts = list(
        roll_out(
            model,
            prompts,
            recipe.responses,
            max_tokens=recipe.max_tokens,
            seed=recipe.seed,
            progress=lambda done: progress("rollouts", done, len(prompts)),
        )
    )
    if not rollouts:
        raise InvalidInput(
            f"No prompt leaves room for {recipe.max_tokens} tokens in the model's context of {model.context}; lower "
            "the number of tokens or give shorter prompts."
        )
    finals = final_rewards(model, artifact, prompts, rollouts)
    return state_table(rollouts, finals, model.tokenizer.end_ids[0], recipe.seed)


def _action_arrays(heads: ActionHeads, ends: Sequence[int]) -> dict[str, np.ndarray]:
    """As ``save_values`` takes them; every end mark is worth what the first one is, which stood for all."""
    tokens = heads.tokens.cpu().numpy().copy()
    tokens[list(ends)] = tokens[ends[0]]
    return {
        "action_states": heads.states.cpu().numpy(),
        "action_offset": heads.offset.cpu().numpy(),
        "action_tokens": tokens,
    }


def _size(table: StateTable, prompts: int) -> dict[str, int]:
    written = np.bincount(table.of) - 1
    return {"prompts": prompts, "rollouts": len(written), "tokens": int(written.sum())}
