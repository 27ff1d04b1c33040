"""The running batch against the plain forward pass, and the order of its rows."""

import pytest
import torch

from app.generation.batch.rows import Prompt, RunningRows, placement
from app.rewards.language import LanguageModel

TOLERANCE = 1e-4  # fp32 rounding through three layers


def _tokens(length: int, seed: int) -> list[int]:
    return torch.randint(6, 262, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def _prompt(model: LanguageModel, length: int) -> Prompt:
    ids = _tokens(length, length)
    memory, state = model.network.prefill(model.tensor([ids]))
    return Prompt(tuple(ids), memory, state)


def _expected(model: LanguageModel, prompt: Prompt, own: list[int]) -> torch.Tensor:
    whole = model.tensor([[*prompt.ids, *own]])
    return model.network.forward(whole, model.network.new_cache(1, whole.shape[1]))[0]


class Batch:
    """Rows with the tokens they were fed."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.heads = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        self.rows = RunningRows(model.network, self.heads)
        self.own: list[list[int]] = []

    def join(self, prompt: Prompt, count: int) -> None:
        self.rows.join(prompt, [torch.rand(70, 2, dtype=torch.float64) for _ in range(count)])
        self.own += [[] for _ in range(count)]
        self.keep(list(range(len(self.own))))

    def keep(self, kept: list[int]) -> None:
        order = placement(self.rows.prompts, kept)
        self.rows.arrange(order)
        self.own = [list(self.own[source]) for source in order]

    def feed(self, steps: int) -> None:
        for step in range(steps):
            tokens = _tokens(self.rows.padded, 1000 * step + len(self.own))
            self.rows.feed(torch.tensor(tokens))
            for own, token in zip(self.own, tokens, strict=False):
                own.append(token)

    def check(self) -> None:
        for row, own in enumerate(self.own):
            states = _expected(self.model, self.rows.prompts[row], own)
            new = states[len(self.rows.prompts[row].ids) :]
            torch.testing.assert_close(self.rows.states[row], states[-1], atol=TOLERANCE, rtol=0)
            torch.testing.assert_close(self.rows.means([row])[0], new.mean(0), atol=TOLERANCE, rtol=0)
            found = self.rows.rewards[row, : len(own)]
            torch.testing.assert_close(found, new @ self.heads.T, atol=10 * TOLERANCE, rtol=0)


@pytest.fixture
def batch(model: LanguageModel) -> Batch:
    return Batch(model)


def test_rows_of_one_prompt_have_the_states_of_their_whole_texts(batch: Batch) -> None:
    batch.join(_prompt(batch.model, 9), 5)
    batch.feed(7)
    batch.check()


def test_rows_of_many_prompts_that_joined_at_different_times_have_the_states_of_their_whole_texts(batch: Batch) -> None:
    for length, count in ((9, 1), (33, 5), (16, 2), (20, 4), (3, 1)):
        batch.join(_prompt(batch.model, length), count)
        batch.feed(3)
    batch.check()


def test_rows_that_stay_are_not_disturbed_by_those_that_leave(batch: Batch) -> None:
    for length, count in ((9, 4), (33, 5), (16, 2)):
        batch.join(_prompt(batch.model, length), count)
        batch.feed(3)
    batch.keep([1, 3, 5, 6, 8, 10])
    batch.feed(4)
    batch.keep([0, 2, 4])
    batch.feed(2)
    batch.check()


def test_copies_of_a_row_go_on_from_where_it_was(batch: Batch) -> None:
    batch.join(_prompt(batch.model, 9), 4)
    batch.join(_prompt(batch.model, 5), 1)
    batch.feed(5)
    batch.keep([2, 2, 2, 0, 4, 4])
    batch.feed(3)
    batch.check()
    assert [len(own) for own in batch.own] == [8] * 6


def test_a_new_row_finds_nothing_of_those_before_it(batch: Batch) -> None:
    batch.join(_prompt(batch.model, 9), 6)
    batch.feed(40)
    batch.keep([])
    batch.join(_prompt(batch.model, 7), 3)
    batch.join(_prompt(batch.model, 8), 1)
    batch.feed(2)
    batch.check()


def test_rows_are_kept_while_room_is_made_for_more(batch: Batch) -> None:
    batch.join(_prompt(batch.model, 9), 2)
    batch.feed(60)
    batch.join(_prompt(batch.model, 7), 30)
    batch.feed(2)
    batch.check()


def test_a_placement_keeps_rows_of_one_prompt_together(model: LanguageModel) -> None:
    first, second = _prompt(model, 4), _prompt(model, 5)
    order = placement([first, second, first, second, first, second], list(range(6)))
    prompts = ["first" if row % 2 == 0 else "second" for row in order]
    assert prompts in (["first"] * 3 + ["second"] * 3, ["second"] * 3 + ["first"] * 3)


def test_a_placement_moves_only_one_row_where_one_leaves(model: LanguageModel) -> None:
    prompt = _prompt(model, 4)
    order = placement([prompt] * 8, [0, 1, 3, 4, 5, 6, 7])
    assert [row for row, source in enumerate(order) if row != source] == [2]


def test_a_placement_repeats_what_is_copied(model: LanguageModel) -> None:
    prompt = _prompt(model, 4)
    assert sorted(placement([prompt] * 3, [1, 1, 1, 2])) == [1, 1, 1, 2]
