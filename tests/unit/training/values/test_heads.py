"""A world where the state after a token is the token's vector and some noise: what is promised is known exactly."""

import numpy as np
import pytest

from app.errors import InvalidInput
from app.training.values.actions import ActionHeads, ActionSettings, fit_action_heads
from app.training.values.prefixes import PrefixHeads, fit_prefix_heads
from app.training.values.rollouts import Rollout
from app.training.values.scores import prefix_errors, score_actions, score_prefixes
from app.training.values.table import StateTable, state_table

HIDDEN, TOKENS, LENGTH, SIZE = 8, 12, 12, 2
END = TOKENS
HEADS = np.array([[1.0, *[0.0] * 7], [0.0, 1.0, *[0.0] * 6]])
BEST = 3
SETTINGS = ActionSettings(rank=4, epochs=20, batch=256)


def vectors() -> np.ndarray:
    """The first value, which the first basis reward reads, is largest for ``BEST``."""
    found = np.random.default_rng(4).standard_normal((TOKENS, HIDDEN))
    found[BEST, 0] = 3.0
    return found


def rollout(prompt: int, rng: np.random.Generator) -> Rollout:
    tokens, others = rng.integers(0, TOKENS, LENGTH), rng.integers(0, TOKENS, LENGTH)

    def after(which: np.ndarray) -> np.ndarray:
        noise = 0.1 * rng.standard_normal((len(which), HIDDEN))
        return np.asarray((vectors()[which] + noise).astype(np.float16))

    states = np.vstack([np.zeros((1, HIDDEN), np.float16), after(tokens)])
    return Rollout(prompt, tokens.astype(np.int32), states, others.astype(np.int32), after(others), ended=False)


def table_of(finals_order: np.random.Generator | None = None) -> StateTable:
    rng = np.random.default_rng(1)
    rollouts = [rollout(prompt, rng) for prompt in range(300) for _ in range(3)]
    finals = np.array([one.states[1:].mean(axis=0, dtype=np.float64) @ HEADS.T for one in rollouts])
    if finals_order is not None:
        finals = finals[finals_order.permutation(len(finals))]
    return state_table(rollouts, finals, END, seed=0)


@pytest.fixture(scope="module")
def table() -> StateTable:
    return table_of()


@pytest.fixture(scope="module")
def prefixes(table: StateTable) -> PrefixHeads:
    return fit_prefix_heads(table)


@pytest.fixture(scope="module")
def actions(table: StateTable, prefixes: PrefixHeads) -> ActionHeads:
    return fit_action_heads(table, prefixes, TOKENS + 1, SETTINGS)


def test_a_beginning_promises_its_share_of_the_mean(prefixes: PrefixHeads) -> None:
    states = vectors()[[BEST, 0]].astype(np.float32)
    found = prefixes.predict(states, states, np.array([1, 1]))
    expected = (vectors()[BEST] - vectors()[0]) @ HEADS.T / LENGTH
    np.testing.assert_allclose(found[0] - found[1], expected, atol=0.12)


def test_a_whole_response_is_worth_what_it_came_to(prefixes: PrefixHeads) -> None:
    same, means = np.zeros((2, HIDDEN), np.float32), 0.3 * vectors()[[BEST, 0]].astype(np.float32)
    found = prefixes.predict(same, means, np.array([LENGTH, LENGTH]))
    np.testing.assert_allclose(found[0] - found[1], (means[0] - means[1]) @ HEADS.T, atol=0.05)


def test_promises_are_calibrated_on_prompts_not_learned_from(table: StateTable, prefixes: PrefixHeads) -> None:
    late = score_prefixes(table, prefixes, None)[-1]
    assert late.slope == pytest.approx(1.0, abs=0.1)
    assert late.miscalibration < 0.2


def test_promises_beat_the_running_mean_early(table: StateTable, prefixes: PrefixHeads) -> None:
    early = score_prefixes(table, prefixes, (HEADS, np.zeros(SIZE)))[1]
    assert early.naive is not None
    assert early.explained > early.naive + 0.5


def test_what_promises_miss_falls_with_length(table: StateTable, prefixes: PrefixHeads) -> None:
    spread = prefix_errors(table, prefixes).trace(axis1=1, axis2=2)
    assert spread[-1] < 0.3 * spread[0]


def test_with_shuffled_rewards_nothing_is_promised() -> None:
    shuffled = table_of(np.random.default_rng(9))
    scores = score_prefixes(shuffled, fit_prefix_heads(shuffled), None)
    assert max(one.explained for one in scores) < 0.1


def test_with_shuffled_rewards_no_token_is_preferred(actions: ActionHeads) -> None:
    shuffled = table_of(np.random.default_rng(9))
    found = fit_action_heads(shuffled, fit_prefix_heads(shuffled), TOKENS + 1, SETTINGS)
    assert spread_of_tokens(found) < 0.3 * spread_of_tokens(actions)


def test_the_best_next_token_is_found_in_every_state(table: StateTable, actions: ActionHeads) -> None:
    states = table.states[table.counts == 5][:50].astype(np.float32)
    added = advantages(actions, states)[:, 0, :TOKENS]
    assert (added.argmax(axis=1) == BEST).all()


def test_most_of_what_tokens_add_is_predicted(table: StateTable, prefixes: PrefixHeads, actions: ActionHeads) -> None:
    assert score_actions(table, prefixes, actions)[-1].explained > 0.7


def test_a_token_that_never_came_adds_nothing(actions: ActionHeads) -> None:
    assert not actions.tokens[END].any()


def test_the_same_seed_gives_the_same_heads(table: StateTable, prefixes: PrefixHeads) -> None:
    quick = ActionSettings(rank=2, epochs=1)
    one, other = (fit_action_heads(table, prefixes, TOKENS + 1, quick, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.tokens.numpy(), other.tokens.numpy())


def test_lengths_that_are_never_reached_have_no_bucket_of_their_own(prefixes: PrefixHeads) -> None:
    assert prefixes.bounds.tolist() == [1, 2, 4, 8, 12]


def test_too_few_rollouts_are_refused() -> None:
    rng = np.random.default_rng(1)
    rollouts = [rollout(prompt, rng) for prompt in range(3)]
    with pytest.raises(InvalidInput, match="too few"):
        fit_prefix_heads(state_table(rollouts, np.zeros((3, SIZE)), END, seed=0))


def test_responses_to_one_prompt_are_in_one_part(table: StateTable) -> None:
    assert all(len(set(table.parts[table.prompts == prompt])) == 1 for prompt in range(300))


def test_every_part_has_a_prompt_however_few_there_are() -> None:
    rng = np.random.default_rng(1)
    few = state_table([rollout(prompt, rng) for prompt in range(3)], np.zeros((3, SIZE)), END, seed=0)
    assert set(few.parts) == {0, 1, 2}


def test_an_end_mark_is_worth_the_finished_response() -> None:
    ending = Rollout(
        0,
        np.array([1], np.int32),
        np.zeros((2, HIDDEN), np.float16),
        np.array([2, 2], np.int32),
        np.zeros((2, HIDDEN), np.float16),
        ended=True,
    )
    table = state_table([ending], np.full((1, SIZE), 7.0), END, seed=0)
    assert table.tokens.tolist() == [1, END]
    assert table.ends.tolist() == [False, True]


def advantages(heads: ActionHeads, states: np.ndarray) -> np.ndarray:
    reads = np.einsum("jrh,nh->njr", heads.states.numpy(), states) + heads.offset.numpy()
    return np.asarray(reads @ heads.tokens.numpy().T)


def spread_of_tokens(heads: ActionHeads) -> float:
    states = vectors().astype(np.float32)
    return float(advantages(heads, states)[:, :, :TOKENS].std(axis=2).mean())
