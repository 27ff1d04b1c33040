"""Client of an OpenAI-compatible server: completions whole or streamed, with retries that respect a deadline.

Every failure becomes one of our errors, without the key and without texts. A request that is cancelled, and a stream
that is closed, end their connection, by which servers stop generating. Knows no rewards and no tokenizer.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import httpx2
import numpy as np

from app.errors import AttuneError, ConfigurationError, EngineUnreachable, InvalidInput
from app.generation.upstream.upstream_replies import (
    Chunk,
    Completion,
    Models,
    Usage,
    check_listed,
    parsed,
    pause_of,
    refusal,
)

RETRIES = 2
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 2.0
_CONNECT_SECONDS = 5.0
_PROBE_SECONDS = 3.0
_LATELY_SECONDS = 30.0
_STARTING_PAUSE = 1.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that another try may change."""


class _Refused(Exception):
    """A request failed; ``pause`` is how long the server asks to wait, and unless ``passing`` there is no use in it."""

    def __init__(self, error: AttuneError, *, passing: bool, pause: float | None = None) -> None:
        super().__init__()
        self.error, self.passing, self.pause = error, passing, pause


class Upstream:
    """One server, and one model on it. ``in_flight`` counts the completions that it is writing for us."""

    def __init__(self, url: str, *, model: str | None, key: str | None, connections: int) -> None:
        """Prepare a client; ``check`` opens the first connection.

        Args:
            url: Address of the API, to which ``/chat/completions`` is appended; usually ends in ``/v1``.
            model: Name of the model; None takes the only one that the server lists.
            key: Sent as a bearer token.
            connections: Requests at a time.

        Raises:
            ConfigurationError: If the address or the key cannot be used.
        """
        _check_settings(url, key)
        self.model = model
        self.in_flight = 0
        self._key = key
        self._client = httpx2.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=connections + 2, max_keepalive_connections=connections),
        )
        self._answered_at: float | None = None
        self._length_field = "max_tokens"
        self._rng = np.random.default_rng()

    async def check(self, seconds: float) -> str:
        """Wait until the server answers, and see that it has the model; returns the model's name.

        Raises:
            ConfigurationError: If the key is refused, there is no such address, or the model is not listed.
            EngineUnreachable: If nothing answers within ``seconds``, or something else than such a server.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.model = check_listed(self.model, await self._listed())
                return self.model
            except InvalidInput as error:
                raise ConfigurationError(error.message) from None
            except _Refused as refused:
                if not refused.passing:
                    raise ConfigurationError(refused.error.message) from None
                if time.monotonic() + _STARTING_PAUSE > deadline:
                    raise refused.error from refused.__cause__
            await asyncio.sleep(_STARTING_PAUSE)

    async def answers(self) -> bool:
        """Whether the server has answered lately, or does now."""
        if self._answered_at is not None and time.monotonic() - self._answered_at < _LATELY_SECONDS:
            return True
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._listed()
        except (_Refused, AttuneError, TimeoutError):
            return False
        return True

    async def complete(self, body: Mapping[str, Any], deadline: float) -> Completion:
        """The answer to a chat completion request.

        Args:
            body: The request; ``model`` is added.
            deadline: Until when to try again, on ``time.monotonic``; it does not end a request under way.

        Raises:
            UpstreamOverloaded: If the server asks for a pause, and still does after the last try.
            EngineUnreachable: If it cannot be reached, fails, refuses the key, or answers nonsense.
            PromptTooLong: If it says so in words that can be read.
            InvalidInput: If it refuses the request for another reason.
        """
        async with self._opened(body, deadline, whole=True) as response:
            return parsed(Completion, response.content)

    async def stream(
        self, body: Mapping[str, Any], deadline: float
    ) -> AsyncGenerator[str | tuple[str, Usage | None], None]:
        """Pieces of text as they come, then the finish reason with the usage, if the server tells it.

        Arguments and errors as ``complete``; once the stream is open, nothing is tried again.
        """
        finish: str | None = None
        usage: Usage | None = None
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with self._opened(asked, deadline, whole=False) as response, aclosing(self._chunks(response)) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
                for choice in chunk.choices[:1]:
                    finish = choice.finish_reason or finish
                    if choice.delta.content:
                        yield choice.delta.content
        if finish is None:
            raise EngineUnreachable("The upstream server ended its stream without a finish_reason; try again.")
        yield finish, usage

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _listed(self) -> list[str]:
        response = await self._sent("GET", "models", None, whole=True)
        return [one.id for one in parsed(Models, response.content).data]

    async def _chunks(self, response: httpx2.Response) -> AsyncGenerator[Chunk, None]:
        """The events of a stream up to its end mark; raises what an event tells in place of a piece."""
        with _transport_errors():
            async for event in httpx2.EventSource(response):
                if event.data == "[DONE]":
                    return
                detail = _error_in(event.data)
                if detail:
                    code = detail.get("code")
                    raise refusal(code if isinstance(code, int) else 500, self._without_key(detail))
                if event.data:
                    yield parsed(Chunk, event.data)

    @asynccontextmanager
    async def _opened(self, body: Mapping[str, Any], deadline: float, *, whole: bool) -> AsyncIterator[httpx2.Response]:
        """A response with status 200, after as many tries as make sense; the connection is given back afterwards."""
        self.in_flight += 1
        try:
            response = await self._tried(body, deadline, whole)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self.in_flight -= 1

    async def _tried(self, body: Mapping[str, Any], deadline: float, whole: bool) -> httpx2.Response:
        for attempt in range(RETRIES + 1):
            try:
                return await self._sent("POST", "chat/completions", body, whole=whole)
            except _Refused as refused:
                jittered = _FIRST_PAUSE * 2**attempt * self._rng.uniform(0.5, 1.5)
                pause = jittered if refused.pause is None else refused.pause
                too_late = pause > _LONGEST_PAUSE or time.monotonic() + pause > deadline
                if attempt == RETRIES or too_late or not refused.passing:
                    raise refused.error from refused.__cause__
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _sent(self, method: str, path: str, body: Mapping[str, Any] | None, *, whole: bool) -> httpx2.Response:
        """The response to one try; raises ``_Refused`` for any status but 200."""
        written = None if body is None else self._written(body)
        request = self._client.build_request(method, path, json=written)
        try:
            with _transport_errors():
                response = await self._client.send(request, stream=not whole)
                if response.status_code != 200:
                    try:
                        await response.aread()
                    finally:
                        await response.aclose()
        except EngineUnreachable as error:
            self._answered_at = None
            raise _Refused(error, passing=True) from error.__cause__
        if response.status_code == 200:
            self._answered_at = time.monotonic()
            return response
        raise self._refused(response, written or {})

    def _written(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body with the model, and with the length under the name that the server wants."""
        renamed = {self._length_field if name == "max_tokens" else name: value for name, value in body.items()}
        return {"model": self.model, **renamed}

    def _refused(self, response: httpx2.Response, written: Mapping[str, Any]) -> _Refused:
        status = response.status_code
        detail = self._without_key(_error_in(response.content) or {})
        if detail.get("param") == "max_tokens" and "max_tokens" in written:
            self._length_field = "max_completion_tokens"
            return _Refused(refusal(status, detail), passing=True, pause=0.0)
        pause = pause_of(response.headers.get("retry-after"), time.time())
        return _Refused(refusal(status, detail, pause), passing=status in _PASSING, pause=pause)

    def _without_key(self, detail: Mapping[str, Any]) -> dict[str, Any]:
        message = str(detail.get("message") or "")
        return {**detail, "message": message.replace(self._key, "***") if self._key else message}


def _check_settings(url: str, key: str | None) -> None:
    try:
        usable = httpx2.URL(url).scheme in {"http", "https"} and bool(httpx2.URL(url).host)
    except httpx2.InvalidURL:
        usable = False
    if not usable:
        raise ConfigurationError("ATTUNE_ENGINE__UPSTREAM_URL must look like https://host/v1.")
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ConfigurationError(
            "ATTUNE_ENGINE__UPSTREAM_KEY holds blanks at an end, line ends or other characters that no header can; "
            "copy the key again."
        )


@contextmanager
def _transport_errors() -> Iterator[None]:
    """Translate what the HTTP library raises; its own words may hold addresses and headers, and are left out."""
    try:
        yield
    except httpx2.RequestError as error:
        raise EngineUnreachable(
            f"The upstream server cannot be reached, or broke off ({type(error).__name__}); check that it runs and "
            f"that ATTUNE_ENGINE__UPSTREAM_URL is its address."
        ) from error


def _error_in(content: bytes | str) -> dict[str, Any] | None:
    """The ``error`` object of an answer, in the shapes that servers give it; None where there is none."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    found = body.get("error") or (body if body.get("object") == "error" else None) or body.get("detail")
    if isinstance(found, dict):
        return found
    return {"message": str(found)} if found else None
