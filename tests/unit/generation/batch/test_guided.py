from dataclasses import replace

import numpy as np
import pytest
import torch

from app.entities import Candidate, Message, SamplingOptions, Steering
from app.errors import ArtifactIncompatible
from app.generation.batch.drawing import Drawing
from app.generation.batch.guided import Guide, RowTilts
from app.generation.batch.heads import Heads
from app.generation.batch.sampling import PLAUSIBLE, tilted
from app.generation.batch.scheduler import Scheduler
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel
from app.rewards.values import ValueHeads
from tests.fakes.tiny_values import favouring, indifferent_values, random_values

OPTIONS = SamplingOptions(max_tokens=40, temperature=1.0, top_p=0.95, seed=3)
COEFFICIENTS = (0.7, -1.0, 0.4)
TOKEN = Steering(COEFFICIENTS, guidance="token")
BLOCK = Steering(COEFFICIENTS, guidance="block", block_tokens=8, continuations=3)


def _drawn(
    model: LanguageModel,
    heads: Heads,
    n: int,
    steering: Steering | None = None,
    values: ValueHeads | None = None,
    options: SamplingOptions = OPTIONS,
) -> Drawing:
    guide = Guide(model, values or random_values())
    scheduler = Scheduler(model, heads, guide=guide)
    ids = model.tokenizer.prompt_ids((Message("user", "Tell me something."),))
    drawing = Drawing(ids, n, options, model.tokenizer, steering=steering, guide=guide)
    scheduler.start(drawing)
    while not drawing.finished:
        scheduler.step()
    return drawing


@pytest.fixture(scope="module")
def heads(model: LanguageModel, basis: BasisArtifact) -> Heads:
    return Heads.on(model, basis)


def _same(first: list[Candidate], second: list[Candidate]) -> bool:
    return all(
        one.text == other.text and (one.basis_rewards == other.basis_rewards).all()
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("steering", [TOKEN, BLOCK])
def test_strength_zero_is_plain_sampling_bit_for_bit(model: LanguageModel, heads: Heads, steering: Steering) -> None:
    plain = _drawn(model, heads, 6).candidates()
    assert _same(_drawn(model, heads, 6, replace(steering, strength=0.0)).candidates(), plain)


def test_blocks_that_all_promise_the_same_are_plain_sampling(model: LanguageModel, heads: Heads) -> None:
    silent = Heads(torch.zeros_like(heads.weight), np.zeros_like(heads.offset))
    plain = _drawn(model, silent, 6).candidates()
    assert _same(_drawn(model, silent, 6, BLOCK, indifferent_values()).candidates(), plain)


def test_an_indifferent_tilt_leaves_the_greedy_text_as_it_is(model: LanguageModel, heads: Heads) -> None:
    greedy = replace(OPTIONS, temperature=0.0)
    plain = _drawn(model, heads, 1, options=greedy).candidates()
    assert _same(_drawn(model, heads, 1, TOKEN, indifferent_values(), greedy).candidates(), plain)


def _share(drawing: Drawing, tokens: list[int]) -> float:
    written = [token for path in drawing.done.values() for token in path.ids]
    return float(np.mean([token in tokens for token in written]))


def test_a_tilt_towards_tokens_makes_them_more_frequent(model: LanguageModel, heads: Heads) -> None:
    tokens = list(range(6, 262, 2))
    plain = _share(_drawn(model, heads, 16), tokens)
    tilt = Steering((1.0, 0.0, 0.0), guidance="token")
    assert _share(_drawn(model, heads, 16, tilt, favouring(tokens)), tokens) > plain + 0.2


def test_a_negative_coefficient_makes_them_less_frequent(model: LanguageModel, heads: Heads) -> None:
    tokens = list(range(6, 262, 2))
    plain = _share(_drawn(model, heads, 16), tokens)
    tilt = Steering((-1.0, 0.0, 0.0), guidance="token")
    assert _share(_drawn(model, heads, 16, tilt, favouring(tokens)), tokens) < plain - 0.2


def test_a_tilt_towards_the_end_never_makes_a_text_empty(model: LanguageModel, heads: Heads) -> None:
    drawing = _drawn(model, heads, 16, Steering((50.0, 0.0, 0.0), guidance="token"), favouring([2]))
    assert min(len(path.ids) for path in drawing.done.values()) >= 1


def test_a_tilt_towards_banned_tokens_never_draws_them(model: LanguageModel, heads: Heads) -> None:
    drawing = _drawn(model, heads, 16, Steering((50.0, 0.0, 0.0), guidance="token"), favouring([0, 3, 4]))
    assert _share(drawing, [0, 3, 4]) == 0


def test_tokens_that_are_not_plausible_stay_out_whatever_the_tilt() -> None:
    logits = torch.tensor([[0.0, np.log(PLAUSIBLE) + 0.1, np.log(PLAUSIBLE) - 0.1]])
    found = tilted(logits, torch.tensor([[0.0, 0.0, 100.0]]))
    assert torch.isfinite(found).tolist() == [[True, True, False]]


def test_a_tilt_is_the_coefficients_mix_of_the_action_heads(model: LanguageModel) -> None:
    values = random_values(scale=0.5)
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    guide = Guide(model, values)
    tilt = guide.fold(replace(TOKEN, strength=2.0))
    found = guide.promise(states, tilt.states.expand(3, -1, -1), tilt.offset.expand(3, -1))
    actions = np.einsum("krh,bh->bkr", values.action_states, states.numpy()) + values.action_offset
    expected = 2.0 * 0.5 * np.einsum("k,vr,bkr->bv", COEFFICIENTS, values.action_tokens, actions)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_rows_without_a_tilt_keep_their_logits_bit_for_bit(model: LanguageModel) -> None:
    guide, generator = Guide(model, random_values()), torch.Generator().manual_seed(1)
    logits, states = torch.randn(4, 262, generator=generator), torch.randn(4, 32, generator=generator)
    found = RowTilts(guide, [None, guide.fold(TOKEN), None], 4).apply(logits.clone(), states)
    assert torch.equal(found[[0, 2]], logits[[0, 2]])
    assert not torch.equal(found[1], logits[1])


def test_a_promise_is_the_value_head_of_its_bucket(model: LanguageModel) -> None:
    values = random_values()
    generator = torch.Generator().manual_seed(2)
    states, means = torch.randn(3, 32, generator=generator), torch.randn(3, 32, generator=generator)
    found = Guide(model, values).predict(states, means, [1, 8, 9])
    both = torch.cat([states, means], dim=1).numpy()
    expected = [values.weight[b] @ both[row] + values.offset[b] for row, b in enumerate([0, 0, 1])]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_value_heads_for_another_vocabulary_are_refused(model: LanguageModel) -> None:
    values = random_values()
    with pytest.raises(ArtifactIncompatible, match="know 261 tokens, the model has 32 and 262"):
        Guide(model, replace(values, action_tokens=values.action_tokens[:261]))


def test_the_block_that_goes_on_promises_at_least_as_much_as_plain_sampling(model: LanguageModel, heads: Heads) -> None:
    one_block = replace(OPTIONS, max_tokens=8)
    plain = _drawn(model, heads, 12, options=one_block).candidates()
    guided = _drawn(model, heads, 12, BLOCK, options=one_block).candidates()
    gains = [
        np.dot(COEFFICIENTS, one.basis_rewards - other.basis_rewards) for one, other in zip(guided, plain, strict=True)
    ]
    assert min(gains) >= 0
    assert max(gains) > 0


def test_rewards_of_candidates_guided_by_blocks_are_those_of_their_own_tokens(
    model: LanguageModel, heads: Heads
) -> None:
    drawing = _drawn(model, heads, 3, BLOCK)
    for number, candidate in enumerate(drawing.candidates()):
        path = drawing.done[number]
        cache, _ = model.network.prefill(model.tensor([drawing.prompt_ids]))
        states = model.network.forward(model.tensor([path.ids]), model.network.new_cache(1, len(path.ids)), cache)
        expected = (states[0].mean(0) @ heads.weight.T).numpy() + heads.offset
        np.testing.assert_allclose(candidate.basis_rewards, expected, atol=1e-4)  # fp32 rounding through three layers


def test_tokens_of_blocks_that_did_not_go_on_are_discarded(model: LanguageModel, heads: Heads) -> None:
    drawing = _drawn(model, heads, 3, BLOCK)
    assert drawing.discarded == drawing.generated - sum(one.tokens for one in drawing.candidates())
    assert drawing.discarded > drawing.generated / 2


def test_candidates_guided_by_blocks_do_not_depend_on_how_many_there_are(model: LanguageModel, heads: Heads) -> None:
    few, many = (_drawn(model, heads, n, BLOCK).candidates() for n in (2, 5))
    assert [one.text for one in few] == [one.text for one in many[:2]]


@pytest.mark.parametrize("steering", [Steering(COEFFICIENTS), TOKEN, BLOCK])
def test_hopeless_candidates_are_dropped_with_what_they_promise(
    model: LanguageModel, heads: Heads, steering: Steering
) -> None:
    drawing = _drawn(model, heads, 16, replace(steering, drop_below=0.3))
    dropped = [one for one in drawing.candidates() if one.finish_reason == "dropped"]
    assert 0 < len(dropped) < 16
    assert {one.tokens % 8 for one in dropped} == {0}
    assert np.isfinite([one.basis_rewards for one in dropped]).all()


def test_at_least_one_candidate_survives_the_strictest_rule(model: LanguageModel, heads: Heads) -> None:
    drawing = _drawn(model, heads, 16, Steering(COEFFICIENTS, drop_below=0.999))
    assert sum(one.finish_reason != "dropped" for one in drawing.candidates()) == 1


def test_candidates_that_are_not_dropped_are_those_of_plain_sampling(model: LanguageModel, heads: Heads) -> None:
    plain = _drawn(model, heads, 16).candidates()
    stopped = _drawn(model, heads, 16, Steering(COEFFICIENTS, drop_below=0.3)).candidates()
    kept = [number for number, one in enumerate(stopped) if one.finish_reason != "dropped"]
    assert [stopped[number].text for number in kept] == [plain[number].text for number in kept]


def test_a_dropped_text_is_a_beginning_of_the_plain_one(model: LanguageModel, heads: Heads) -> None:
    plain = _drawn(model, heads, 16).candidates()
    stopped = _drawn(model, heads, 16, Steering(COEFFICIENTS, drop_below=0.3)).candidates()
    pairs = [(one, other) for one, other in zip(stopped, plain, strict=True) if one.finish_reason == "dropped"]
    assert all(other.text.startswith(one.text) for one, other in pairs)


def test_tokens_of_dropped_candidates_are_discarded(model: LanguageModel, heads: Heads) -> None:
    drawing = _drawn(model, heads, 16, Steering(COEFFICIENTS, drop_below=0.3))
    dropped = [one.tokens for one in drawing.candidates() if one.finish_reason == "dropped"]
    assert drawing.discarded == sum(dropped)


def test_a_single_candidate_is_never_dropped(model: LanguageModel, heads: Heads) -> None:
    (only,) = _drawn(model, heads, 1, Steering(COEFFICIENTS, drop_below=0.999)).candidates()
    assert only.finish_reason != "dropped"


def test_without_heads_to_read_finished_candidates_compete_with_what_they_promised(model: LanguageModel) -> None:
    drawing = _drawn(model, Heads.none(model), 16, Steering(COEFFICIENTS, drop_below=0.4))
    assert sum(path.finish == "dropped" for path in drawing.done.values()) > 0
