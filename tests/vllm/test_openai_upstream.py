"""The engine in front of a stock vLLM server that serves an exported checkpoint, over HTTP."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from app.entities import CandidateSet, Conversation, Message, SamplingOptions
from app.errors import InvalidInput
from app.generation.upstream.openai_engine import OpenAIEngine
from app.rewards.artifact import BasisArtifact
from app.rewards.export import export_checkpoint, load_tokenizer, read_description
from app.rewards.language import ChatTokenizer
from tests.vllm.models import write_model
from tests.vllm.servers import stock_server

pytestmark = pytest.mark.anyio

TOLERANCE = 1e-3
"""Log-probabilities come as decimal numbers, and rewards are differences of two of them."""

OPTIONS = SamplingOptions(max_tokens=24, temperature=0.7, top_p=0.95, seed=3)
GREEDY = replace(OPTIONS, temperature=0.0)
QUESTION: Conversation = (Message("user", "How do I keep a plant alive?"),)
N = 8


@dataclass(frozen=True)
class Served:
    url: str
    exported: Path
    model: Path
    artifact: BasisArtifact
    tokenizer: ChatTokenizer

    def engine(self, exported: Path | None, **settings: object) -> OpenAIEngine:
        return OpenAIEngine(self.model, self.artifact, upstream_url=self.url, exported=exported, **settings)  # type: ignore[arg-type]

    def unambiguous(self, drawn: CandidateSet) -> list[int]:
        """Numbers of the candidates whose texts are cut again into the very tokens that they were written in."""
        counts = [len(self.tokenizer.response_ids(one.text)) for one in drawn.candidates]
        return [place for place, one in enumerate(drawn.candidates) if one.tokens == counts[place]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("upstream")
    model, artifact = write_model("bundled", directory)
    exported = export_checkpoint(model, artifact, directory / "exported").directory
    tokenizer = load_tokenizer(exported, read_description(exported).rows.first)
    with stock_server(exported, directory) as url:
        yield Served(url, exported, model, artifact, tokenizer)


@pytest.fixture(scope="module", params=["trunk", "virtual", "virtual in one request"])
async def engine(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[OpenAIEngine]:
    exported = served.exported if "virtual" in request.param else None
    engine = served.engine(exported, one_request="one request" in request.param)
    await engine.start()
    yield engine
    await engine.close()


async def test_rewards_are_those_that_the_trunk_reads(engine: OpenAIEngine, served: Served) -> None:
    drawn = await engine.candidates(QUESTION, N, OPTIONS)
    by_trunk = engine._exported is None
    places = range(N) if by_trunk else served.unambiguous(drawn)
    assert len(places) > N // 2
    read = await engine.basis_rewards(QUESTION, [drawn.candidates[place].text for place in places])
    told = np.stack([drawn.candidates[place].basis_rewards for place in places])
    np.testing.assert_allclose(told, read, atol=TOLERANCE)


async def test_no_text_is_empty_and_none_too_long(engine: OpenAIEngine) -> None:
    drawn = await engine.candidates(QUESTION, N, OPTIONS)
    assert all(one.text and 0 < one.tokens <= OPTIONS.max_tokens for one in drawn.candidates)


async def test_candidates_of_one_call_differ(engine: OpenAIEngine) -> None:
    drawn = await engine.candidates(QUESTION, N, OPTIONS)
    assert len({one.text for one in drawn.candidates}) > 1


async def test_the_same_seed_gives_the_same_texts(engine: OpenAIEngine) -> None:
    first = await engine.candidates(QUESTION, N, OPTIONS)
    await engine.forget()
    again = await engine.candidates(QUESTION, N, OPTIONS)
    assert [one.text for one in again.candidates] == [one.text for one in first.candidates]


async def test_a_stop_string_ends_a_text(engine: OpenAIEngine) -> None:
    (whole,) = (await engine.candidates(QUESTION, 1, GREEDY)).candidates
    stop = whole.text[8:11]
    (cut,) = (await engine.candidates(QUESTION, 1, replace(GREEDY, stop=(stop,)))).candidates
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.index(stop)].strip(), "stop")


async def test_a_stream_is_the_text_of_one_candidate(engine: OpenAIEngine) -> None:
    options = replace(OPTIONS, seed=12)
    *pieces, last = [one async for one in engine.stream(QUESTION, options)]
    await engine.forget()
    drawn = await engine.candidates(QUESTION, 1, options)
    assert isinstance(last, CandidateSet)
    assert "".join(map(str, pieces)) == last.candidates[0].text == drawn.candidates[0].text
    np.testing.assert_allclose(last.candidates[0].basis_rewards, drawn.candidates[0].basis_rewards, atol=TOLERANCE)


async def test_a_prompt_beyond_the_servers_context_is_refused(engine: OpenAIEngine) -> None:
    with pytest.raises(InvalidInput):
        await engine.candidates(QUESTION, 1, replace(OPTIONS, max_tokens=5000))


async def test_both_ways_to_read_rewards_agree_on_greedy_text(served: Served) -> None:
    rewards = []
    for exported in (None, served.exported):
        engine = served.engine(exported)
        await engine.start()
        rewards.append((await engine.candidates(QUESTION, 1, GREEDY)).candidates[0])
        await engine.close()
    assert rewards[0].text == rewards[1].text
    np.testing.assert_allclose(rewards[0].basis_rewards, rewards[1].basis_rewards, atol=TOLERANCE)
