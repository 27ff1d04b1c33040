from typing import Any

import pytest
import torch

from app.generation.batch.prefixes import Prefixes
from app.rewards.language import LanguageModel

TOLERANCE = 1e-4  # fp32 rounding through three layers
IDS = torch.randint(6, 262, (60,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture
def prefixes(model: LanguageModel) -> Prefixes:
    return Prefixes(model, 200)


def test_the_first_prompt_is_read_whole(prefixes: Prefixes) -> None:
    assert prefixes.read(IDS)[1] == 0


def test_the_same_prompt_is_not_read_again(prefixes: Prefixes) -> None:
    first, _ = prefixes.read(IDS)
    again, reused = prefixes.read(IDS)
    assert again is first
    assert reused == len(IDS)


@pytest.mark.parametrize(("ids", "reused"), [([*IDS, 7, 8], 60), ([*IDS[:30], 7, 8], 30), (IDS[:40], 39)])
def test_only_what_departs_from_the_most_similar_prompt_is_read(
    prefixes: Prefixes, ids: list[int], reused: int
) -> None:
    prefixes.read(IDS[:20])
    prefixes.read(IDS)
    assert prefixes.read(ids)[1] == reused


@pytest.mark.parametrize("ids", [[*IDS, 7, 8], [*IDS[:30], 7, 8], IDS[:40]])
def test_what_was_reused_has_the_same_states(prefixes: Prefixes, model: LanguageModel, ids: list[int]) -> None:
    prefixes.read(IDS)
    found, _ = prefixes.read(ids)
    memory, state = model.network.prefill(model.tensor([ids]))
    torch.testing.assert_close(found.state, state, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(found.memory.keys, memory.keys, atol=TOLERANCE, rtol=0)


def test_short_beginnings_are_read_again(prefixes: Prefixes) -> None:
    prefixes.read(IDS)
    assert prefixes.read([*IDS[:15], 7, 8])[1] == 0


def test_the_prompts_used_longest_ago_are_forgotten_beyond_the_budget(prefixes: Prefixes) -> None:
    others = [[number, *IDS[1:]] for number in range(6, 10)]
    for ids in (IDS, *others[:2], IDS, *others[2:]):
        prefixes.read(ids)
    assert prefixes.tokens <= 200
    assert [prefixes.read(ids)[1] for ids in (IDS, others[0])] == [60, 0]


def test_nothing_is_kept_without_a_budget(model: LanguageModel) -> None:
    prefixes = Prefixes(model, 0)
    prefixes.read(IDS)
    assert prefixes.tokens == prefixes.read(IDS)[1] == 0


def test_forgetting_leaves_nothing(prefixes: Prefixes) -> None:
    prefixes.read(IDS)
    prefixes.forget()
    assert prefixes.read(IDS)[1] == 0


def test_a_prompt_that_is_read_while_all_is_forgotten_is_not_kept(
    prefixes: Prefixes, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = model.network.prefill

    def interrupted(*arguments: Any, **options: Any) -> Any:
        prefixes.forget()
        return prefill(*arguments, **options)

    monkeypatch.setattr(model.network, "prefill", interrupted)
    prefixes.read(IDS)
    assert prefixes.tokens == 0
