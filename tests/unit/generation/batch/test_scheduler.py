from dataclasses import replace

import numpy as np
import pytest
import torch

from app.entities import Candidate, Message, SamplingOptions, Steering
from app.generation.batch.drawing import Drawing
from app.generation.batch.guided import Guide
from app.generation.batch.heads import Heads
from app.generation.batch.scheduler import Scheduler
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel
from tests.fakes.tiny_values import random_values

OPTIONS = SamplingOptions(max_tokens=40, temperature=1.0, top_p=0.95, seed=11)
QUESTIONS = ("Hi", "What should I cook tonight?", "Tell me about the moon, and who lives there.", "Why?")
TOLERANCE = 1e-5  # fp32 rounding on states of size 5; on the bundled model they are equal bit for bit
TILT = Steering((0.7, -1.0, 0.4), guidance="token")


@pytest.fixture(scope="module")
def guide(model: LanguageModel) -> Guide:
    return Guide(model, random_values())


class Bench:
    """Requests to one scheduler, each started some steps after the one before."""

    def __init__(self, model: LanguageModel, basis: BasisArtifact, guide: Guide, **options: int) -> None:
        self.model, self.guide = model, guide
        self.scheduler = Scheduler(model, Heads.on(model, basis), guide=guide, **options)

    def drawing(self, number: int, n: int = 1, steering: Steering | None = None, **options: object) -> Drawing:
        ids = self.model.tokenizer.prompt_ids((Message("user", QUESTIONS[number % 4]),))
        chosen = replace(OPTIONS, seed=number, **options)
        return Drawing(ids, n, chosen, self.model.tokenizer, steering=steering, guide=self.guide)

    def run(self, drawings: list[Drawing], apart: int = 0) -> list[list[Candidate]]:
        waiting = list(drawings)
        while waiting:
            self.scheduler.start(waiting.pop(0))
            for _ in range(apart):
                self.scheduler.step()
        while self.scheduler.drawings:
            self.scheduler.step()
        return [drawing.candidates() for drawing in drawings]


@pytest.fixture
def bench(model: LanguageModel, basis: BasisArtifact, guide: Guide) -> Bench:
    return Bench(model, basis, guide)


def _texts(sets: list[list[Candidate]]) -> list[list[tuple[str, int, str]]]:
    return [[(one.text, one.tokens, one.finish_reason) for one in candidates] for candidates in sets]


def _rewards(sets: list[list[Candidate]]) -> np.ndarray:
    return np.concatenate([[one.basis_rewards for one in candidates] for candidates in sets])


MIXED = [(1, None), (7, None), (2, None), (1, TILT), (5, replace(TILT, coefficients=(-3.0, 0.0, 2.0))), (1, None)]


@pytest.mark.parametrize("apart", [0, 1, 5])
def test_texts_are_the_same_alone_and_beside_others(bench: Bench, apart: int) -> None:
    alone = [bench.run([bench.drawing(i, n, steering)])[0] for i, (n, steering) in enumerate(MIXED)]
    together = bench.run([bench.drawing(i, n, steering) for i, (n, steering) in enumerate(MIXED)], apart)
    assert _texts(together) == _texts(alone)


@pytest.mark.parametrize("apart", [0, 3])
def test_rewards_are_the_same_alone_and_beside_others(bench: Bench, apart: int) -> None:
    alone = [bench.run([bench.drawing(i, n, steering)])[0] for i, (n, steering) in enumerate(MIXED)]
    together = bench.run([bench.drawing(i, n, steering) for i, (n, steering) in enumerate(MIXED)], apart)
    np.testing.assert_allclose(_rewards(together), _rewards(alone), atol=TOLERANCE)


def test_coefficients_of_24_users_in_one_batch_never_mix(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    users = [replace(TILT, coefficients=tuple(rng.standard_normal(3))) for _ in range(24)]
    together = bench.run([bench.drawing(4, 1, user) for user in users])
    alone = [bench.run([bench.drawing(4, 1, user)])[0] for user in users]
    assert _texts(together) == _texts(alone)
    assert len({candidates[0].text for candidates in together}) > 12


def test_requests_with_their_own_temperatures_are_decoded_together(bench: Bench) -> None:
    settings = [{"temperature": 0.0}, {"temperature": 0.5}, {"temperature": 1.0, "top_p": 1.0}, {"max_tokens": 3}]
    alone = [bench.run([bench.drawing(i, 2, **options)])[0] for i, options in enumerate(settings)]
    together = bench.run([bench.drawing(i, 2, **options) for i, options in enumerate(settings)], 2)
    assert _texts(together) == _texts(alone)


def test_a_stop_string_of_one_request_does_not_stop_another(bench: Bench) -> None:
    whole = bench.run([bench.drawing(1), bench.drawing(2)])
    stop = whole[0][0].text[4:6]
    cut = bench.run([bench.drawing(1, stop=(stop,)), bench.drawing(2)])
    assert cut[0][0].text == whole[0][0].text[: whole[0][0].text.find(stop)].strip()
    assert _texts(cut)[1] == _texts(whole)[1]


def test_more_candidates_than_rows_are_decoded_in_turn(
    model: LanguageModel, basis: BasisArtifact, guide: Guide, bench: Bench
) -> None:
    narrow = Bench(model, basis, guide, max_rows=4)
    assert _texts(narrow.run([narrow.drawing(1, 11)])) == _texts(bench.run([bench.drawing(1, 11)]))


def test_no_more_rows_are_live_than_allowed(model: LanguageModel, basis: BasisArtifact, guide: Guide) -> None:
    narrow = Bench(model, basis, guide, max_rows=4)
    narrow.scheduler.start(narrow.drawing(1, 11))
    seen = set()
    while narrow.scheduler.drawings:
        seen.add(narrow.scheduler.rows)
        narrow.scheduler.step()
    assert max(seen) == 4


def test_a_request_that_does_not_fit_is_not_accepted_yet(
    model: LanguageModel, basis: BasisArtifact, guide: Guide
) -> None:
    narrow = Bench(model, basis, guide, max_rows=4)
    narrow.scheduler.start(narrow.drawing(1, 3))
    assert [narrow.scheduler.accepts(rows) for rows in (1, 2)] == [True, False]


def test_dropping_one_request_frees_all_its_rows(bench: Bench) -> None:
    first, second = bench.drawing(1, 6), bench.drawing(2, 3)
    bench.scheduler.start(first)
    bench.scheduler.start(second)
    bench.scheduler.step()
    bench.scheduler.drop(first)
    assert bench.scheduler.rows == 3


def test_dropping_one_request_leaves_the_others_as_they_were(bench: Bench) -> None:
    expected = bench.run([bench.drawing(2, 3)])
    first, second = bench.drawing(1, 6), bench.drawing(2, 3)
    bench.scheduler.start(first)
    bench.scheduler.step()
    bench.scheduler.start(second)
    bench.scheduler.step()
    bench.scheduler.drop(first)
    assert _texts([*bench.run([]), second.candidates()]) == _texts(expected)


def test_a_request_that_fails_on_its_own_leaves_the_others_as_they_were(bench: Bench) -> None:
    expected = bench.run([bench.drawing(2, 3)])
    broken, sound = bench.drawing(1, 6), bench.drawing(2, 3)

    def attempt(drawing: Drawing, work: object) -> bool:
        return drawing is not broken and (work() or True)  # type: ignore[operator]

    bench.scheduler.start(broken)
    bench.scheduler.start(sound)
    while bench.scheduler.drawings:
        bench.scheduler.step(attempt)
    assert _texts([sound.candidates()]) == _texts(expected)


def test_states_that_are_not_finite_do_not_spread_to_who_comes_next(bench: Bench) -> None:
    expected = bench.run([bench.drawing(2, 3)])
    poisoned = bench.drawing(1, 3)
    bench.scheduler.start(poisoned)
    bench.scheduler.step()
    rows = bench.scheduler._rows
    with torch.inference_mode():
        for buffer in (rows._keys, rows._values):
            buffer[:, :, :, : rows._used] = torch.nan
    bench.scheduler.drop(poisoned)
    assert _texts(bench.run([bench.drawing(2, 3)])) == _texts(expected)


def test_a_prompt_that_begins_like_an_earlier_one_gives_the_same_candidates(
    model: LanguageModel, basis: BasisArtifact, guide: Guide, bench: Bench
) -> None:
    reusing = Bench(model, basis, guide, prefix_tokens=1000)
    turn = model.tokenizer.prompt_ids((Message("user", QUESTIONS[2]),))
    reusing.run([Drawing(turn, 1, OPTIONS, model.tokenizer)])
    longer = [*turn[:-3], *model.tokenizer.prompt_ids((Message("user", QUESTIONS[1]),))]
    again, fresh = (Drawing(longer, 4, OPTIONS, model.tokenizer) for _ in range(2))
    assert _texts(reusing.run([again])) == _texts(bench.run([fresh]))
    assert again.reused == len(turn) - 3


def test_nothing_of_the_prompt_is_reused_the_first_time(bench: Bench) -> None:
    drawing = bench.drawing(1)
    bench.run([drawing])
    assert drawing.reused == 0


def test_the_time_of_steps_is_known_after_one(bench: Bench) -> None:
    bench.run([bench.drawing(1)])
    assert bench.scheduler.times.speed is not None


def test_states_of_every_token_can_be_watched(model: LanguageModel, basis: BasisArtifact) -> None:
    seen: dict[int, list[torch.Tensor]] = {}

    def watch(numbers: object, states: torch.Tensor) -> None:
        for number, state in zip(numbers, states, strict=True):  # type: ignore[call-overload]
            seen.setdefault(number, []).append(state)

    heads = Heads.on(model, basis)
    scheduler = Scheduler(model, heads, on_states=watch)
    ids = model.tokenizer.prompt_ids((Message("user", "Hi"),))
    drawing = Drawing(ids, 3, OPTIONS, model.tokenizer)
    scheduler.start(drawing)
    while not drawing.finished:
        scheduler.step()
    means = np.stack([torch.stack(seen[number]).mean(0).numpy() for number in range(3)])
    expected = means @ basis.heads.T + basis.offset
    np.testing.assert_allclose([one.basis_rewards for one in drawing.candidates()], expected, atol=1e-5)


def test_a_request_waits_in_the_batch_until_the_next_step(bench: Bench) -> None:
    bench.scheduler.start(bench.drawing(1, 3))
    assert bench.scheduler.rows == 0
    bench.scheduler.step()
    assert bench.scheduler.rows == 3


def test_a_failure_to_make_room_fails_the_step_that_all_share(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bench.scheduler._rows, "_allocate", fail)
    bench.scheduler.start(bench.drawing(1, 16))
    with pytest.raises(MemoryError):
        bench.scheduler.step()


def test_candidates_in_turn_that_are_dropped_within_blocks_stay_dropped(
    model: LanguageModel, basis: BasisArtifact, guide: Guide
) -> None:
    steering = replace(TILT, guidance="block", block_tokens=8, continuations=2, drop_below=0.45)
    for number in range(12):
        narrow = Bench(model, basis, guide, max_rows=6)
        drawing = narrow.drawing(number, 9, steering)
        narrow.run([drawing])
        kept = sum(len(path.ids) for path in drawing.done.values() if path.finish != "dropped")
        assert drawing.generated - drawing.discarded == kept


def test_a_temperature_next_to_zero_is_as_good_as_greedy(bench: Bench) -> None:
    greedy, cold = bench.run([bench.drawing(1, temperature=0.0)]), bench.run([bench.drawing(1, temperature=1e-46)])
    assert _texts(cold) == _texts(greedy)


def test_buffers_of_a_large_batch_are_given_back_once_it_is_empty(bench: Bench) -> None:
    drawings = [bench.drawing(number, 64, max_tokens=600, stop=tuple("aeiou")) for number in range(2)]
    bench.run(drawings)
    assert bench.scheduler._rows.uniforms.shape[:2] == (4, 32)
