"""The engine in front of another server, against a fake one on a real socket."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from app.entities import Caller, CandidateSet, Conversation, Message, SamplingOptions, Steering
from app.errors import (
    AttuneError,
    ConfigurationError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnreachable,
    GuidanceUnavailable,
    InvalidInput,
    PromptTooLong,
    Unavailable,
)
from app.generation.upstream.openai_engine import OpenAIEngine
from app.rewards.artifact import BasisArtifact
from tests.fakes.upstream import MODEL, FakeUpstream, Scripted, event, piece

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret-key-0123456789"
OPTIONS = SamplingOptions(max_tokens=12, temperature=1.0, top_p=0.9, seed=5)
QUESTION: Conversation = (Message("user", "What should I cook tonight?"),)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def upstream(server: FakeUpstream) -> FakeUpstream:
    server.reset()
    return server


@pytest.fixture(scope="module")
def parts(checkpoint: Path, basis: BasisArtifact) -> tuple[Path, BasisArtifact]:
    return checkpoint, basis


class Engines:
    """Builds engines in front of one fake server, and closes them."""

    def __init__(self, parts: tuple[Path, BasisArtifact], upstream: FakeUpstream) -> None:
        self._parts, self.upstream = parts, upstream
        self._made: list[OpenAIEngine] = []

    def make(self, **settings: object) -> OpenAIEngine:
        usual = {"upstream_url": self.upstream.url, "upstream_key": KEY, "timeout_seconds": 10.0}
        self._made.append(OpenAIEngine(*self._parts, **{**usual, **settings}))  # type: ignore[arg-type]
        return self._made[-1]

    async def start(self, **settings: object) -> OpenAIEngine:
        engine = self.make(**settings)
        await engine.start()
        return engine

    async def close(self) -> None:
        for engine in self._made:
            await engine.close()


@pytest.fixture
async def engines(parts: tuple[Path, BasisArtifact], upstream: FakeUpstream) -> AsyncIterator[Engines]:
    engines = Engines(parts, upstream)
    yield engines
    await engines.close()


@pytest.fixture
async def engine(engines: Engines) -> OpenAIEngine:
    return await engines.start()


async def _failure(engine: OpenAIEngine, options: SamplingOptions = OPTIONS, n: int = 1) -> AttuneError:
    with pytest.raises(AttuneError) as caught:
        await engine.candidates(QUESTION, n, options)
    return caught.value


async def _collect(engine: OpenAIEngine, options: SamplingOptions = OPTIONS) -> tuple[list[str], CandidateSet]:
    *pieces, last = [one async for one in engine.stream(QUESTION, options)]
    assert isinstance(last, CandidateSet)
    return [str(one) for one in pieces], last


def _vacant(engine: OpenAIEngine) -> bool:
    return (engine._gate.used, engine._reading.used, engine.queue_length, engine.rows) == (0, 0, 0, 0)


# What is asked for


async def test_every_candidate_has_a_request_and_a_seed_of_its_own(
    engine: OpenAIEngine, upstream: FakeUpstream
) -> None:
    await engine.candidates(QUESTION, 5, OPTIONS)
    assert len({body["seed"] for body in upstream.bodies}) == 5


async def test_seeds_are_those_that_every_server_takes(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    await engine.candidates(QUESTION, 5, replace(OPTIONS, seed=2**63 + 9))
    assert all(0 <= body["seed"] < 2**31 for body in upstream.bodies)


async def test_one_request_asks_for_all_candidates_if_told_to(engines: Engines) -> None:
    engine = await engines.start(one_request=True)
    await engine.candidates(QUESTION, 5, OPTIONS)
    assert [body["n"] for body in engines.upstream.bodies] == [5]


async def test_candidates_of_one_request_differ(engines: Engines) -> None:
    engine = await engines.start(one_request=True)
    drawn = await engine.candidates(QUESTION, 5, OPTIONS)
    assert len({one.text for one in drawn.candidates}) == 5


async def test_candidates_of_one_request_are_counted_one_by_one(engines: Engines) -> None:
    engine = await engines.start(one_request=True)
    drawn = await engine.candidates(QUESTION, 2, OPTIONS)
    assert [one.tokens for one in drawn.candidates] == [len(one.text) for one in drawn.candidates]  # bytes are tokens


async def test_at_temperature_zero_it_is_asked_once_however_many_are_wanted(
    engine: OpenAIEngine, upstream: FakeUpstream
) -> None:
    drawn = await engine.candidates(QUESTION, 4, replace(OPTIONS, temperature=0.0))
    assert (len(upstream.bodies), len(drawn.candidates)) == (1, 4)


async def test_what_was_drawn_before_is_not_asked_for_again(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    first = await engine.candidates(QUESTION, 4, OPTIONS)
    again = await engine.candidates(QUESTION, 2, OPTIONS)
    assert (again.candidates, len(upstream.bodies)) == (first.candidates[:2], 4)


async def test_what_was_forgotten_is_asked_for_again(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    await engine.candidates(QUESTION, 1, OPTIONS)
    await engine.forget()
    await engine.candidates(QUESTION, 1, OPTIONS)
    assert len(upstream.bodies) == 2


async def test_no_more_requests_run_at_a_time_than_allowed(engines: Engines) -> None:
    engine = await engines.start(max_rows=3)
    engines.upstream.token_seconds = 0.002
    await engine.candidates(QUESTION, 10, OPTIONS)
    assert engines.upstream.most_at_once == 3


async def test_prompt_tokens_are_those_that_the_server_reports(engine: OpenAIEngine) -> None:
    assert (await engine.candidates(QUESTION, 2, OPTIONS)).prompt_tokens == 5


async def test_tokens_are_counted_here_where_the_server_does_not(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.tells_usage = False
    drawn = await engine.candidates(QUESTION, 1, OPTIONS)
    assert drawn.completion_tokens == len(drawn.candidates[0].text)


async def test_a_server_that_wants_the_newer_length_field_gets_it(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    refused = Scripted(400, {"error": {"code": "unsupported_parameter", "param": "max_tokens", "message": "no"}})
    upstream.decide = lambda body: refused if "max_tokens" in body else None
    await engine.candidates(QUESTION, 3, OPTIONS)
    assert upstream.bodies[-1]["max_completion_tokens"] == OPTIONS.max_tokens


async def test_steering_is_refused_with_the_reason(engine: OpenAIEngine) -> None:
    with pytest.raises(GuidanceUnavailable, match="another server writes"):
        await engine.candidates(QUESTION, 1, OPTIONS, steering=Steering((0.0, 1.0, 0.0), guidance="block"))


async def test_coefficients_of_another_length_are_refused(engine: OpenAIEngine) -> None:
    with pytest.raises(InvalidInput, match="2 coefficients"):
        await engine.candidates(QUESTION, 1, OPTIONS, steering=Steering((0.0, 1.0)))


async def test_the_speed_is_known_after_the_first_answer(engine: OpenAIEngine) -> None:
    assert engine.speed is None
    await engine.candidates(QUESTION, 1, OPTIONS)
    assert engine.speed is not None


# Streams


async def test_the_pieces_of_a_stream_are_the_text_of_its_candidate(engine: OpenAIEngine) -> None:
    pieces, drawn = await _collect(engine)
    assert "".join(pieces) == drawn.candidates[0].text


async def test_a_stream_comes_in_pieces(engine: OpenAIEngine) -> None:
    assert len((await _collect(engine))[0]) > 5


async def test_a_stream_ends_with_what_one_candidate_would_have_been(engines: Engines) -> None:
    streamed = (await _collect(await engines.start()))[1]
    drawn = await (await engines.start()).candidates(QUESTION, 1, OPTIONS)
    assert streamed.candidates[0].text == drawn.candidates[0].text
    np.testing.assert_array_equal(streamed.candidates[0].basis_rewards, drawn.candidates[0].basis_rewards)
    assert (streamed.prompt_tokens, streamed.completion_tokens) == (drawn.prompt_tokens, drawn.completion_tokens)


async def test_a_known_text_is_streamed_without_asking(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    drawn = await engine.candidates(QUESTION, 1, OPTIONS)
    pieces, _ = await _collect(engine)
    assert ("".join(pieces), len(upstream.bodies)) == (drawn.candidates[0].text, 1)


async def test_blanks_around_a_streamed_text_are_left_out(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.append(Scripted(lines=[piece("  \n"), piece(" warm "), piece("tea\n"), piece("\n ", "stop")]))
    pieces, drawn = await _collect(engine)
    assert ("".join(pieces), drawn.candidates[0].text) == ("warm tea", "warm tea")


async def test_an_error_in_a_stream_is_raised(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.append(Scripted(lines=[piece("warm"), event({"error": {"message": "boom", "code": 503}})]))
    with pytest.raises(EngineOverloaded):
        await _collect(engine)


@pytest.mark.parametrize(
    "lines",
    [[piece("warm")], ["data: {not json\n\n"], [event({"choices": [{"delta": {"content": 3}}]})]],
    ids=["ends without a finish", "not JSON", "content of another kind"],
)
async def test_a_broken_stream_is_an_unreachable_engine(
    engine: OpenAIEngine, upstream: FakeUpstream, lines: list[str]
) -> None:
    upstream.next.append(Scripted(lines=lines))
    with pytest.raises(EngineUnreachable):
        await _collect(engine)


async def test_an_answer_that_is_no_stream_is_an_unreachable_engine(
    engine: OpenAIEngine, upstream: FakeUpstream
) -> None:
    upstream.next.append(Scripted(200, {"choices": []}))
    with pytest.raises(EngineUnreachable):
        await _collect(engine)


async def test_closing_a_stream_ends_the_request_and_frees_its_place(
    engine: OpenAIEngine, upstream: FakeUpstream
) -> None:
    upstream.token_seconds = 0.02
    stream = engine.stream(QUESTION, OPTIONS)
    await anext(stream)
    await stream.aclose()
    await upstream.idle()
    assert (upstream.broken_off, _vacant(engine)) == (1, True)


async def test_a_stream_past_its_deadline_is_a_timeout(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.token_seconds = 0.2
    with pytest.raises(EngineTimeout):
        [one async for one in engine.stream(QUESTION, OPTIONS, caller=Caller(timeout_seconds=0.3))]
    assert _vacant(engine)


# Failures of the server


async def test_a_failure_that_passes_is_tried_again(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.extend([Scripted(500), Scripted(502, "bad gateway")])
    assert (await engine.candidates(QUESTION, 1, OPTIONS)).candidates


async def test_it_is_tried_three_times_at_most(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.extend([Scripted(500)] * 5)
    assert isinstance(await _failure(engine), EngineUnreachable)
    assert len(upstream.bodies) == 3


async def test_nothing_is_tried_again_after_the_deadline(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.extend([Scripted(500)] * 5)
    with pytest.raises(EngineUnreachable):
        await engine.candidates(QUESTION, 1, OPTIONS, caller=Caller(timeout_seconds=0.1))
    assert len(upstream.bodies) == 1


async def test_what_is_wrong_with_a_request_is_not_tried_again(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.append(Scripted(400, {"error": {"message": "top_p is wrong"}}))
    error = await _failure(engine)
    assert isinstance(error, InvalidInput)
    assert "top_p is wrong" in error.message
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_limit_tells_when_to_come_back(engine: OpenAIEngine, upstream: FakeUpstream, status: int) -> None:
    upstream.next.append(Scripted(status, {"error": {"message": "slow down"}}, {"Retry-After": "17"}))
    error = await _failure(engine)
    assert isinstance(error, EngineOverloaded)
    assert (error.retry_after_seconds, len(upstream.bodies)) == (17, 1)


async def test_a_short_pause_is_waited_for(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.append(Scripted(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}))
    assert (await engine.candidates(QUESTION, 1, OPTIONS)).candidates


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_named_and_not_tried_again(
    engine: OpenAIEngine, upstream: FakeUpstream, status: int
) -> None:
    upstream.next.append(Scripted(status, {"error": {"message": f"Incorrect API key provided: {KEY}"}}))
    error = await _failure(engine)
    assert isinstance(error, EngineUnreachable)
    assert "UPSTREAM_KEY" in error.message
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 64 tokens. However, your messages resulted in 90 tokens.",
        "This model's maximum context length is 64 tokens. However, you requested 12 output tokens and your prompt "
        "contains at least 90 input tokens, for a total of at least 102 tokens.",
        "This model's maximum context length is 64 tokens. However, you requested 102 tokens (90 in the messages, 12 "
        "in the completion).",
    ],
)
async def test_a_prompt_that_the_server_finds_too_long_is_one(
    engine: OpenAIEngine, upstream: FakeUpstream, message: str
) -> None:
    upstream.next.append(Scripted(400, {"error": {"message": message, "code": "context_length_exceeded"}}))
    error = await _failure(engine)
    assert isinstance(error, PromptTooLong)
    assert "90 tokens" in error.message
    assert "holds 64" in error.message


async def test_a_length_refused_in_other_words_is_passed_on(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.append(Scripted(400, {"error": {"message": "too much", "code": "context_length_exceeded"}}))
    error = await _failure(engine)
    assert (type(error), error.field) == (InvalidInput, "prompt")


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, "choices"),
        ({"choices": [{"finish_reason": "stop"}]}, "choices.0.message"),
        ({"choices": [{"message": {"role": "assistant"}}]}, "choices.0.message.content"),
        ("no JSON at all", "the body"),
        ({"choices": []}, "0 choices where 1"),
    ],
)
async def test_an_answer_without_what_is_needed_names_it(
    engine: OpenAIEngine, upstream: FakeUpstream, body: object, missing: str
) -> None:
    upstream.next.append(Scripted(200, body))
    error = await _failure(engine)
    assert isinstance(error, EngineUnreachable)
    assert missing in error.message


@pytest.mark.parametrize(
    "answer",
    [
        Scripted(200, "junk", {"Content-Encoding": "gzip"}),
        Scripted(400, "[" * 100_000),
        Scripted(500, "junk", {"Content-Encoding": "gzip"}),
    ],
)
async def test_an_answer_that_cannot_be_decoded_is_an_error_of_ours(
    engine: OpenAIEngine, upstream: FakeUpstream, answer: Scripted
) -> None:
    upstream.next.extend([answer] * 3)
    with pytest.raises((EngineUnreachable, InvalidInput)):
        await engine.candidates(QUESTION, 1, OPTIONS)


async def test_an_event_that_is_nested_too_deeply_is_an_unreachable_engine(
    engine: OpenAIEngine, upstream: FakeUpstream
) -> None:
    upstream.next.append(Scripted(lines=["data: " + "[" * 100_000 + "\n\n"]))
    with pytest.raises(EngineUnreachable):
        [item async for item in engine.stream(QUESTION, OPTIONS)]


async def test_an_answer_without_text_is_an_empty_candidate(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.next.append(
        Scripted(200, {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]})
    )
    (only,) = (await engine.candidates(QUESTION, 1, OPTIONS)).candidates
    assert (only.text, only.finish_reason, bool(np.isfinite(only.basis_rewards).all())) == ("", "stop", True)


async def test_one_failure_of_many_requests_ends_the_others(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.token_seconds = 1.0
    upstream.next.append(Scripted(400, {"error": {"message": "no"}}))
    assert isinstance(await _failure(engine, n=6), InvalidInput)
    await upstream.idle()
    assert upstream.broken_off == len(upstream.bodies) - 1


async def test_a_cancelled_call_ends_all_its_requests(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.token_seconds = 1.0
    call = asyncio.create_task(engine.candidates(QUESTION, 6, OPTIONS))
    await upstream.asked(6)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await upstream.idle()
    assert (upstream.broken_off, _vacant(engine)) == (6, True)


async def test_a_call_past_its_callers_deadline_is_a_timeout(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.token_seconds = 1.0
    with pytest.raises(EngineTimeout, match=r"0\.2 s"):
        await engine.candidates(QUESTION, 2, OPTIONS, caller=Caller(timeout_seconds=0.2))
    assert _vacant(engine)


async def test_a_server_that_went_away_is_an_unreachable_engine(engines: Engines) -> None:
    with FakeUpstream() as upstream:
        engine = await engines.start(upstream_url=upstream.url)
    assert isinstance(await _failure(engine), EngineUnreachable)


# Start and end


async def test_the_key_is_sent(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    await engine.candidates(QUESTION, 1, OPTIONS)
    assert set(upstream.keys) == {f"Bearer {KEY}"}


async def test_the_only_model_of_a_server_needs_no_name(engine: OpenAIEngine) -> None:
    assert engine.model == MODEL


async def test_a_model_that_is_not_listed_stops_the_start(engines: Engines) -> None:
    with pytest.raises(ConfigurationError, match="lists no 'other' but fake-model"):
        await engines.start(upstream_model="other")


async def test_one_of_several_models_has_to_be_named(engines: Engines) -> None:
    engines.upstream.models = ["one", "two"]
    with pytest.raises(ConfigurationError, match="UPSTREAM_MODEL"):
        await engines.start()


async def test_a_key_that_is_refused_stops_the_start(engines: Engines) -> None:
    engines.upstream.models_status = 401
    with pytest.raises(ConfigurationError, match="UPSTREAM_KEY"):
        await engines.start()


async def test_an_address_without_such_an_api_stops_the_start(engines: Engines) -> None:
    with pytest.raises(ConfigurationError, match="UPSTREAM_URL"):
        await engines.start(upstream_url=engines.upstream.url.removesuffix("/v1"))


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", ""])
async def test_an_address_that_is_none_is_refused(engines: Engines, url: str) -> None:
    with pytest.raises(ConfigurationError, match="UPSTREAM_URL"):
        engines.make(upstream_url=url)


@pytest.mark.parametrize("key", ["line\nend", " secret-key", "ключ"])
async def test_a_key_that_no_header_can_hold_is_refused(engines: Engines, key: str) -> None:
    with pytest.raises(ConfigurationError, match="UPSTREAM_KEY") as caught:
        engines.make(upstream_key=key)
    assert key not in str(caught.value)


async def test_a_server_that_is_not_there_stops_the_start(engines: Engines) -> None:
    with FakeUpstream() as upstream:
        gone = upstream.url
    with pytest.raises(EngineUnreachable):
        await engines.start(upstream_url=gone, timeout_seconds=0.1)


async def test_a_server_that_is_still_starting_is_waited_for(engines: Engines) -> None:
    engines.upstream.models_status = 503
    start = asyncio.create_task(engines.start())
    await asyncio.sleep(0.5)
    engines.upstream.models_status = 200
    assert await (await start).ready()


async def test_it_is_not_ready_before_its_start(engines: Engines) -> None:
    assert not await engines.make().ready()


async def test_it_takes_no_call_before_its_start(engines: Engines) -> None:
    with pytest.raises(Unavailable):
        await engines.make().candidates(QUESTION, 1, OPTIONS)


async def test_it_is_not_ready_once_its_server_went_away(engines: Engines) -> None:
    with FakeUpstream() as upstream:
        engine = await engines.start(upstream_url=upstream.url)
    await _failure(engine)
    assert not await engine.ready()


async def test_closing_waits_for_calls_under_way(engine: OpenAIEngine, upstream: FakeUpstream) -> None:
    upstream.token_seconds = 0.02
    call = asyncio.create_task(engine.candidates(QUESTION, 2, OPTIONS))
    await asyncio.sleep(0.05)
    await engine.close()
    assert len((await call).candidates) == 2


# What must never happen


async def test_the_key_is_in_no_error_and_no_log(
    engines: Engines, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    structlog.reset_defaults()
    shown = []
    with capture_logs() as logs:
        engine = await engines.start()
        for status in (400, 401, 403, 404, 422, 429, 500):
            engines.upstream.next.extend([Scripted(status, {"error": {"message": f"wrong: {KEY}"}})] * 3)
            shown += traceback.format_exception(await _failure(engine))
            engines.upstream.next.clear()
        engines.upstream.next.append(Scripted(lines=[event({"error": {"message": f"wrong: {KEY}", "code": 400}})]))
        with pytest.raises(InvalidInput) as caught:
            await _collect(engine)
        shown += traceback.format_exception(caught.value)
    printed = capsys.readouterr()
    everything = "".join([*shown, str(logs), caplog.text, printed.out, printed.err])
    assert "wrong: ***" in everything
    assert KEY not in everything


async def test_nothing_that_a_person_wrote_is_logged(engines: Engines, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        engine = await engines.start()
        drawn = await engine.candidates(QUESTION, 2, OPTIONS)
    written = [QUESTION[0].content, *(one.text for one in drawn.candidates)]
    assert not any(text in str(logs) + caplog.text for text in written)


async def test_no_place_is_lost_in_two_hundred_failures_and_departures(engines: Engines) -> None:
    engine, upstream = await engines.start(max_rows=5, queue_size=200, cached_candidates=0), engines.upstream
    rng = np.random.default_rng(3)
    upstream.token_seconds = 0.0005
    kinds = [Scripted(500), Scripted(429, {}, {"Retry-After": "9"}), Scripted(200, "nonsense"), Scripted(400, {}), None]
    upstream.decide = lambda body: kinds[int(rng.integers(9)) % 5] if rng.random() < 0.5 else None

    async def call(number: int) -> None:
        options, caller = replace(OPTIONS, seed=number), Caller(str(number % 3), float(rng.choice([0.05, 5.0])))
        if number % 2:
            await engine.candidates(QUESTION, int(rng.integers(1, 7)), options, caller=caller)
        else:
            stream = engine.stream(QUESTION, options, caller=caller)
            async for _ in stream:
                if rng.random() < 0.1:
                    break
            await stream.aclose()

    tasks = [asyncio.create_task(call(number)) for number in range(200)]
    for task in tasks:
        if rng.random() < 0.3:
            task.cancel()
        await asyncio.sleep(0.001)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, AttuneError | asyncio.CancelledError | None) for one in outcomes)
    assert sum(one is None for one in outcomes) > 10
    assert _vacant(engine)
    upstream.decide = lambda body: None
    assert len((await engine.candidates(QUESTION, 5, OPTIONS)).candidates) == 5
