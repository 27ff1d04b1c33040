import numpy as np
import pytest
import torch

from app.generation.batch.sampling import choose_tokens, uniform_stream
from app.generation.vllm.vllm_steps import PAYLOAD, ActionHeads, StepLayout, Steps
from app.rewards.export import VirtualRows

VOCABULARY, SIZE, RANK = 40, 3, 2
ROWS = VirtualRows(VOCABULARY, SIZE, 2, RANK)
BANNED, END = 7, 5


@pytest.fixture
def steps() -> Steps:
    generator = torch.Generator().manual_seed(1)
    actions = ActionHeads(
        torch.randn(VOCABULARY, RANK, generator=generator), torch.randn(SIZE, RANK, generator=generator), 0.5
    )
    return Steps(StepLayout(ROWS, torch.tensor([BANNED]), torch.tensor([END]), actions))


def _payload(key: str, **changed: object) -> dict[str, object]:
    usual = {"key": key, "seed": 3, "number": 0, "continuation": 0, "done": 0, "most": 30, "temperature": 1.0}
    return {PAYLOAD: {**usual, "top_p": 0.9, **changed}}


def _logits(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, ROWS.end, generator=torch.Generator().manual_seed(seed)) * 3


def _drawn(logits: torch.Tensor) -> list[int]:
    """The one token that each row leaves possible."""
    assert torch.isfinite(logits).sum(dim=1).eq(1).all()
    return logits.argmax(dim=1).tolist()


def test_the_token_is_the_one_that_the_torch_engine_draws(steps: Steps) -> None:
    steps.add(0, _payload("a", seed=9, number=4), [])
    logits = _logits(1)
    real = logits[:, :VOCABULARY].clone()
    real[:, [BANNED, END]] = -torch.inf
    expected = choose_tokens(real, uniform_stream(9, 4, 0, 1), temperature=1.0, top_p=0.9).tolist()
    assert _drawn(steps.apply(logits)) == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_banned_and_virtual_tokens_are_never_drawn(steps: Steps, temperature: float) -> None:
    steps.add(0, _payload("a", temperature=temperature, top_p=1.0), [])
    logits = _logits(1)
    logits[0, BANNED], logits[0, ROWS.first :] = 90.0, 80.0
    assert _drawn(steps.apply(logits))[0] not in {BANNED, *range(ROWS.first, ROWS.end)}


def test_no_text_ends_before_it_begins(steps: Steps) -> None:
    steps.add(0, _payload("a", temperature=0.0), [])
    logits = _logits(1)
    logits[0, END] = 90.0
    assert _drawn(steps.apply(logits)) != [END]


def test_a_continued_text_may_end_at_once(steps: Steps) -> None:
    steps.add(0, _payload("a", temperature=0.0, done=4), [])
    logits = _logits(1)
    logits[0, END] = 90.0
    assert _drawn(steps.apply(logits)) == [END]


def test_requests_of_others_lose_nothing_but_the_virtual_tokens(steps: Steps) -> None:
    steps.add(1, _payload("a"), [])
    logits = _logits(2)
    before = logits[0, :VOCABULARY].clone()
    steps.apply(logits)
    assert torch.equal(logits[0, :VOCABULARY], before)
    assert torch.isinf(logits[0, VOCABULARY:]).all()


def _write(steps: Steps, tokens: int, output: list[int], row: int, batch: int = 4) -> list[np.ndarray]:
    """Run so many steps; returns the reward rows that ``row`` had."""
    seen = []
    for step in range(tokens):
        logits = _logits(batch, seed=step + 50)
        seen.append(logits[row, ROWS.first : ROWS.first + SIZE].double().numpy().copy())
        output.append(_drawn(steps.apply(logits)[[row]])[0])
    return seen


def test_rows_are_summed_over_the_tokens_asked_for(steps: Steps) -> None:
    output: list[int] = []
    steps.add(2, _payload("a"), output)
    seen = _write(steps, 6, output, row=2)
    (sums, last) = steps.read(["a"], [4])[0]
    assert np.allclose(sums, sum(seen[1:5]))
    assert np.allclose(last, seen[4])


def test_no_tokens_have_the_row_of_the_prompt(steps: Steps) -> None:
    output: list[int] = []
    steps.add(0, _payload("a"), output)
    seen = _write(steps, 2, output, row=0)
    assert np.allclose(steps.read(["a"], [0])[0], [seen[0], seen[0]])


def test_a_prompt_read_in_parts_counts_its_last_row_only(steps: Steps) -> None:
    output: list[int] = []
    steps.add(0, _payload("a"), output)
    steps.apply(_logits(1, seed=99))  # a part of the prompt: vLLM throws the token away
    seen = _write(steps, 3, output, row=0)
    assert np.allclose(steps.read(["a"], [2])[0][0], sum(seen[1:3]))


def test_a_request_that_was_preempted_goes_on_where_it_was(steps: Steps) -> None:
    output: list[int] = []
    steps.add(0, _payload("a"), output)
    before = _write(steps, 3, output, row=0)
    steps.remove(0)
    again = list(output)
    steps.add(3, _payload("a"), again)
    after = _write(steps, 2, again, row=3)
    assert np.allclose(steps.read(["a"], [4])[0][0], sum([*before, *after][1:5]))


def test_a_request_that_takes_anothers_place_leaves_it_readable(steps: Steps) -> None:
    output: list[int] = []
    steps.add(0, _payload("a"), output)
    seen = _write(steps, 2, output, row=0)
    steps.add(0, _payload("b"), [])
    assert np.allclose(steps.read(["a"], [1])[0][0], seen[1])


def test_moving_into_the_place_of_one_that_ended_leaves_it_readable(steps: Steps) -> None:
    output: list[int] = []
    steps.add(0, _payload("a"), output)
    steps.add(1, _payload("b", number=1), [])
    seen = _write(steps, 1, output, row=0)
    steps.move(1, 0, swap=False)
    assert (sorted(steps.live), list(steps.ended)) == ([0], ["a"])
    assert np.allclose(steps.read(["a"], [0])[0][0], seen[0])


def test_a_swap_exchanges_the_two(steps: Steps) -> None:
    steps.add(0, _payload("a"), [])
    steps.add(1, _payload("b"), [])
    steps.move(0, 1, swap=True)
    assert [steps.live[0].key, steps.live[1].key] == ["b", "a"]


def test_what_is_forgotten_is_not_kept_when_it_ends(steps: Steps) -> None:
    steps.add(0, _payload("a"), [])
    steps.apply(_logits(1))
    steps.forget(["a"])
    steps.remove(0)
    assert not steps.ended


def test_guidance_of_one_request_leaves_the_others_as_they_are(steps: Steps) -> None:
    for number in range(4):
        weights = [4.0, -4.0, 4.0] if number == 1 else None
        steps.add(number, _payload(str(number), number=number, coefficients=weights), [])
    guided = _drawn(steps.apply(_logits(4)))
    plain = Steps(steps.layout)
    for number in range(4):
        plain.add(number, _payload(str(number), number=number), [])
    expected = _drawn(plain.apply(_logits(4)))
    assert [guided[0], *guided[2:]] == [expected[0], *expected[2:]]


def test_the_tilt_is_that_of_its_definition(steps: Steps) -> None:
    weights = torch.tensor([1.0, -2.0, 0.5])
    steps.add(0, _payload("a", temperature=0.0, coefficients=weights.tolist()), [])
    logits = _logits(1) / 3
    actions = steps.layout.actions
    assert actions is not None
    states = logits[0, ROWS.actions : ROWS.end].view(SIZE, RANK)
    tilt = sum(0.5 * weights[j] * actions.tokens @ (states[j] + actions.offset[j]) for j in range(SIZE))
    real = logits[0, :VOCABULARY].clone()
    real[[BANNED, END]] = -torch.inf
    plausible = real >= real.max() + np.log(0.02)
    expected = int(torch.where(plausible, real + tilt, -torch.inf).argmax())
    assert _drawn(steps.apply(logits)) == [expected]


def test_an_unknown_key_cannot_be_read(steps: Steps) -> None:
    with pytest.raises(KeyError, match="nobody"):
        steps.read(["nobody"], [1])
