import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from app.entities import Conversation, Message, SamplingOptions
from app.errors import ArtifactError, ArtifactIncompatible, PromptTooLong, Unavailable
from app.generation import loaded_model
from app.generation.transformers_engine import TransformersEngine, usual_threads
from app.rewards.artifact import BasisArtifact
from app.rewards.scorer import basis_rewards
from app.rewards.trunk_transformers import load_trunk
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model
from tests.fakes.tiny_trunks import HIDDEN, write_tiny_trunk

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=12, temperature=1.0, top_p=0.9, seed=5)
QUESTION = (Message("user", "What should I cook tonight?"),)


@pytest.fixture
async def engine(checkpoint: Path, basis: BasisArtifact) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(checkpoint, basis, threads=1, cached_candidates=2)
    await engine.start()
    yield engine
    await engine.close()


async def test_it_names_the_model_and_the_version_of_its_basis(
    engine: TransformersEngine, basis: BasisArtifact
) -> None:
    assert (engine.model, engine.basis_version) == ("tiny", basis.basis.version)


async def test_a_repeated_request_generates_nothing(engine: TransformersEngine) -> None:
    first = await engine.candidates(QUESTION, 3, OPTIONS)
    generated = engine.tokens_generated
    assert await engine.candidates(QUESTION, 3, OPTIONS) == first
    assert engine.tokens_generated == generated


async def test_fewer_candidates_of_a_known_request_generate_nothing(engine: TransformersEngine) -> None:
    many = await engine.candidates(QUESTION, 3, OPTIONS)
    generated = engine.tokens_generated
    few = await engine.candidates(QUESTION, 2, OPTIONS)
    assert few.candidates == many.candidates[:2]
    assert engine.tokens_generated == generated


async def test_fewer_candidates_of_a_known_request_cost_only_themselves(engine: TransformersEngine) -> None:
    await engine.candidates(QUESTION, 3, OPTIONS)
    few = await engine.candidates(QUESTION, 2, OPTIONS)
    assert few.completion_tokens == sum(one.tokens for one in few.candidates)


async def test_the_request_used_longest_ago_is_forgotten_first(engine: TransformersEngine) -> None:
    for seed in (1, 2, 1, 3):
        await engine.candidates(QUESTION, 1, replace(OPTIONS, seed=seed))
    generated = engine.tokens_generated
    await engine.candidates(QUESTION, 1, replace(OPTIONS, seed=1))
    assert engine.tokens_generated == generated
    await engine.candidates(QUESTION, 1, replace(OPTIONS, seed=2))
    assert engine.tokens_generated > generated


async def test_a_request_that_cannot_be_repeated_is_not_kept(engine: TransformersEngine) -> None:
    once = replace(OPTIONS, cacheable=False)
    first = await engine.candidates(QUESTION, 1, once)
    again = await engine.candidates(QUESTION, 1, once)
    assert again.candidates[0].text == first.candidates[0].text
    assert engine.tokens_generated == 2 * first.completion_tokens
    assert not len(engine._kept)


async def test_a_smaller_set_never_replaces_a_larger_one(engine: TransformersEngine) -> None:
    await asyncio.gather(*(engine.candidates(QUESTION, n, OPTIONS) for n in (1, 3, 1)))
    generated = engine.tokens_generated
    await engine.candidates(QUESTION, 3, OPTIONS)
    assert engine.tokens_generated == generated


async def test_what_was_under_way_while_all_was_forgotten_is_not_kept(engine: TransformersEngine) -> None:
    task = asyncio.create_task(engine.candidates(QUESTION, 1, OPTIONS))
    await asyncio.sleep(0)
    await engine.forget()
    await task
    assert not len(engine._kept)


async def test_forgetting_waits_for_no_turn(engine: TransformersEngine) -> None:
    gate = threading.Event()
    running = asyncio.create_task(engine._worker.run(lambda check: gate.wait(5)))
    await asyncio.sleep(0)
    await engine.forget()
    assert not running.done()
    gate.set()
    await running


async def test_an_engine_that_is_closed_forgets_too(engine: TransformersEngine) -> None:
    await engine.candidates(QUESTION, 1, OPTIONS)
    await engine.close()
    await engine.forget()
    assert engine._loaded is not None
    assert engine._loaded.scheduler.prefixes.tokens == 0


async def test_nothing_is_kept_when_the_cache_has_no_room(checkpoint: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(checkpoint, basis, threads=1, cached_candidates=0)
    await engine.start()
    first = await engine.candidates(QUESTION, 1, OPTIONS)
    await engine.candidates(QUESTION, 1, OPTIONS)
    await engine.close()
    assert engine.tokens_generated == 2 * first.completion_tokens


async def test_a_small_model_is_decoded_by_one_thread_unless_told_otherwise(
    checkpoint: Path, basis: BasisArtifact
) -> None:
    engine = TransformersEngine(checkpoint, basis)
    await engine.start()
    threads = await engine._worker.run(lambda check: torch.get_num_threads())
    await engine.close()
    assert threads == 1


async def test_a_large_model_is_decoded_by_all_threads() -> None:
    assert usual_threads(hidden=2048, most=8) == 8


async def test_an_engine_that_was_not_started_is_not_ready(checkpoint: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(checkpoint, basis)
    assert not await engine.ready()
    await engine.close()


async def test_the_speed_is_known_once_it_is_ready(checkpoint: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(checkpoint, basis, threads=1)
    assert engine.speed is None
    await engine.start()
    assert engine.speed is not None
    assert engine.speed.step + engine.speed.row > 0
    await engine.close()


async def test_a_closed_engine_is_not_ready(checkpoint: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(checkpoint, basis, threads=1)
    await engine.start()
    await engine.close()
    assert not await engine.ready()


async def test_a_request_before_the_model_is_loaded_is_turned_away(checkpoint: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(checkpoint, basis)
    with pytest.raises(Unavailable, match="still loading"):
        await engine.candidates(QUESTION, 1, OPTIONS)
    await engine.close()


async def test_a_basis_made_for_another_model_stops_the_start(tmp_path: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(write_tiny_model(tmp_path, seed=6), basis, threads=1)
    with pytest.raises(ArtifactIncompatible, match="was made for model 'tiny'"):
        await engine.start()
    await engine.close()


async def test_closing_answers_the_requests_under_way(checkpoint: Path, basis: BasisArtifact) -> None:
    engine = TransformersEngine(checkpoint, basis, threads=1)
    await engine.start()
    task = asyncio.create_task(engine.candidates(QUESTION, 2, OPTIONS))
    await asyncio.sleep(0)
    await engine.close()
    assert len((await task).candidates) == 2


@pytest.fixture(scope="session")
def encoder_basis(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> BasisArtifact:
    trunk = write_tiny_trunk(tmp_path_factory.mktemp("bert"), "bert")
    directory = tmp_path_factory.mktemp("encoder-basis")
    return write_tiny_basis(directory, checkpoint, hidden=HIDDEN, pooling="mean", trunk=trunk)


@pytest.fixture
async def encoder_engine(checkpoint: Path, encoder_basis: BasisArtifact) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(checkpoint, encoder_basis, threads=1)
    await engine.start()
    yield engine
    await engine.close()


async def test_candidates_are_scored_by_the_trunk_of_the_basis(
    encoder_engine: TransformersEngine, encoder_basis: BasisArtifact
) -> None:
    drawn = (await encoder_engine.candidates(QUESTION, 3, OPTIONS)).candidates
    trunk = load_trunk(encoder_basis.trunk, "mean", device="cpu")
    expected = basis_rewards(trunk, encoder_basis, [(QUESTION, one.text) for one in drawn])
    np.testing.assert_allclose([one.basis_rewards for one in drawn], expected, atol=1e-5)  # fp32 rounding


async def test_equal_texts_are_read_by_the_trunk_once(
    encoder_engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counting(trunk: object, artifact: object, rows: list[object], **more: object) -> np.ndarray:
        read.append(len(rows))
        return basis_rewards(trunk, artifact, rows, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loaded_model, "basis_rewards", counting)
    drawn = await encoder_engine.candidates(QUESTION, 3, replace(OPTIONS, temperature=0.0))
    assert (read, len(drawn.candidates)) == ([1], 3)


async def test_texts_written_elsewhere_are_scored_by_the_trunk_of_the_basis(encoder_engine: TransformersEngine) -> None:
    drawn = (await encoder_engine.candidates(QUESTION, 3, OPTIONS)).candidates
    scored = await encoder_engine.basis_rewards(QUESTION, [one.text for one in drawn])
    np.testing.assert_allclose([one.basis_rewards for one in drawn], scored, atol=1e-5)


async def test_the_trunk_does_not_change_what_is_generated(
    engine: TransformersEngine, encoder_engine: TransformersEngine
) -> None:
    own, other = [(await one.candidates(QUESTION, 3, OPTIONS)).candidates for one in (engine, encoder_engine)]
    assert [one.text for one in own] == [one.text for one in other]


async def test_a_text_beyond_the_context_of_the_trunk_is_refused(encoder_engine: TransformersEngine) -> None:
    with pytest.raises(PromptTooLong, match="the context holds 128"):
        await encoder_engine.basis_rewards(QUESTION, ["word " * 30])


def _asking(characters: int) -> Conversation:
    """A question of that many tokens, which the encoder reads with three marks."""
    return (Message("user", "w" * characters),)


async def test_a_candidate_that_exceeds_the_context_of_the_trunk_has_the_rewards_of_its_beginning(
    encoder_engine: TransformersEngine,
) -> None:
    drawn = (await encoder_engine.candidates(_asking(120), 3, OPTIONS)).candidates
    beginnings = [one.text[:5] for one in drawn]
    assert beginnings != [one.text for one in drawn]
    expected = await encoder_engine.basis_rewards(_asking(120), beginnings)
    np.testing.assert_allclose([one.basis_rewards for one in drawn], expected, atol=1e-5)


async def test_the_trunk_needs_room_for_one_token_of_a_response(encoder_engine: TransformersEngine) -> None:
    drawn = (await encoder_engine.candidates(_asking(124), 3, OPTIONS)).candidates
    assert np.isfinite([one.basis_rewards for one in drawn]).all()


async def test_a_prompt_that_fills_the_context_of_the_trunk_is_refused_before_decoding(
    encoder_engine: TransformersEngine,
) -> None:
    with pytest.raises(PromptTooLong, match="The prompt has 128 tokens and asks for 1 more, but the context holds 128"):
        await encoder_engine.candidates(_asking(125), 3, OPTIONS)
    assert encoder_engine.seconds_decoding == 0


@pytest.mark.parametrize(("which", "warned"), [("basis", False), ("encoder_basis", True)])
async def test_a_trunk_with_less_context_than_the_model_is_warned_of_at_the_start(
    checkpoint: Path, request: pytest.FixtureRequest, which: str, warned: bool
) -> None:
    engine = TransformersEngine(checkpoint, request.getfixturevalue(which), threads=1)
    with capture_logs() as logs:
        await engine.start()
    await engine.close()
    found = [(one["event"], one["trunk_context"], one["model_context"]) for one in logs]
    assert found == [("short_trunk", 128, 256)] * warned


async def test_a_trunk_that_changed_is_refused_at_the_start(
    checkpoint: Path, encoder_basis: BasisArtifact, tmp_path: Path
) -> None:
    shutil.copytree(encoder_basis.trunk, tmp_path / "trunk")
    (tmp_path / "trunk" / "config.json").write_text("{}")
    engine = TransformersEngine(checkpoint, replace(encoder_basis, trunk=tmp_path / "trunk"), threads=1)
    with pytest.raises(ArtifactError, match="SHA-256"):
        await engine.start()
    await engine.close()


async def test_a_trunk_of_another_size_is_refused(checkpoint: Path, encoder_basis: BasisArtifact) -> None:
    wider = replace(encoder_basis, heads=np.zeros((3, HIDDEN + 1), np.float32))
    engine = TransformersEngine(checkpoint, wider, threads=1)
    with pytest.raises(ArtifactIncompatible, match="17 hidden values"):
        await engine.start()
    await engine.close()
