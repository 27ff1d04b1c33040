import numpy as np
import pytest
import torch

from app.generation.batch.sampling import choose_tokens, draw_uniforms

PROBABILITIES = torch.tensor([0.05, 0.4, 0.0, 0.3, 0.15, 0.1])
DRAWS = 20_000
TOLERANCE = 0.015  # more than four standard deviations of a share of 20,000 draws


def _shares(temperature: float, top_p: float, logits: torch.Tensor | None = None) -> torch.Tensor:
    logits = PROBABILITIES.log() if logits is None else logits
    uniforms = draw_uniforms(3, 1, DRAWS)[0]
    tokens = choose_tokens(logits.expand(DRAWS, -1), uniforms, temperature=temperature, top_p=top_p)
    return torch.bincount(tokens, minlength=len(logits)) / DRAWS


def test_without_a_nucleus_tokens_come_as_often_as_they_are_probable() -> None:
    torch.testing.assert_close(_shares(1.0, 1.0), PROBABILITIES, atol=TOLERANCE, rtol=0)


def test_a_token_without_probability_never_comes() -> None:
    assert _shares(1.0, 1.0)[2] == 0


def test_within_the_nucleus_tokens_keep_their_proportions() -> None:
    expected = torch.tensor([0.0, 0.4, 0.0, 0.3, 0.15, 0.0]) / 0.85
    torch.testing.assert_close(_shares(1.0, 0.8), expected, atol=TOLERANCE, rtol=0)


def test_the_token_that_crosses_the_edge_of_the_nucleus_belongs_to_it() -> None:
    assert (_shares(1.0, 0.41) > 0).tolist() == [False, True, False, True, False, False]


def test_temperature_sharpens_the_distribution() -> None:
    expected = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    torch.testing.assert_close(_shares(0.5, 1.0), expected, atol=TOLERANCE, rtol=0)


def test_a_nucleus_larger_than_usual_is_sampled_as_well() -> None:
    logits = torch.zeros(1000)
    logits[900:] = -3.0
    expected = logits.exp().masked_fill(logits < 0, 0)
    uniforms = draw_uniforms(3, 1, 2000)[0]
    top_p = 0.99 * float(expected.sum() / logits.exp().sum())
    tokens = choose_tokens(logits.expand(2000, -1), uniforms, temperature=1.0, top_p=top_p)
    assert 700 < len(tokens[tokens < 900].unique()) <= 900
    assert int((tokens >= 900).sum()) == 0


def test_temperature_zero_takes_the_most_probable_token() -> None:
    tokens = choose_tokens(PROBABILITIES.log()[None], torch.rand(1, 2), temperature=0, top_p=1.0)
    assert tokens.tolist() == [1]


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_largest_uniform_still_picks_a_token_with_probability(top_p: float) -> None:
    uniforms = torch.full((1, 2), np.nextafter(1.0, 0.0), dtype=torch.float64)
    logits = torch.tensor([[1.0, 0.0, -torch.inf, -torch.inf]])
    assert int(choose_tokens(logits, uniforms, temperature=1.0, top_p=top_p)[0]) in {0, 1}


def test_what_one_row_draws_does_not_depend_on_the_others() -> None:
    logits = torch.randn((8, 50), generator=torch.Generator().manual_seed(1))
    uniforms = draw_uniforms(4, 8, 1)[:, 0]
    together = choose_tokens(logits, uniforms, temperature=1.5, top_p=0.6)
    alone = [choose_tokens(logits[[i]], uniforms[[i]], temperature=1.5, top_p=0.6) for i in range(8)]
    assert torch.equal(together, torch.cat(alone))


def test_uniforms_of_the_first_candidates_do_not_depend_on_how_many_there_are() -> None:
    assert torch.equal(draw_uniforms(9, 2, 5), draw_uniforms(9, 6, 5)[:2])


def test_the_first_uniforms_do_not_depend_on_how_many_tokens_are_allowed() -> None:
    assert torch.equal(draw_uniforms(9, 2, 5), draw_uniforms(9, 2, 8)[:, :5])


def test_candidates_and_seeds_have_different_uniforms() -> None:
    streams = torch.cat([draw_uniforms(1, 2, 3), draw_uniforms(2, 2, 3)]).flatten()
    assert len(streams.unique()) == len(streams)


def test_a_negative_seed_is_a_seed() -> None:
    assert torch.equal(draw_uniforms(-1, 1, 2), draw_uniforms(2**64 - 1, 1, 2))


def test_a_row_that_is_not_finite_harms_no_other() -> None:
    logits, uniforms = torch.randn(2, 6), torch.rand(2, 2, dtype=torch.float64)
    sound = choose_tokens(logits, uniforms, temperature=1.0, top_p=0.9)
    broken = choose_tokens(torch.stack([logits[0], torch.full((6,), torch.nan)]), uniforms, temperature=1.0, top_p=0.9)
    assert broken[0] == sound[0]
    assert 0 <= int(broken[1]) < 6


def test_every_row_has_its_own_temperature_and_nucleus() -> None:
    logits, uniforms = torch.randn(3, 50), draw_uniforms(4, 3, 1)[:, 0]
    temperature, top_p = [0.0, 0.7, 1.3], [1.0, 0.5, 0.9]
    together = choose_tokens(
        logits, uniforms, temperature=torch.tensor(temperature), top_p=torch.tensor(top_p, dtype=torch.float64)
    )
    alone = [choose_tokens(logits[[i]], uniforms[[i]], temperature=temperature[i], top_p=top_p[i]) for i in range(3)]
    assert together.tolist() == torch.cat(alone).tolist()
