"""How candidates are asked of an OpenAI-compatible server: which requests, with which seeds, and what comes back.

Knows no rewards; a request may ask for what they can be read from.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from app.entities import Conversation, FinishReason, SamplingOptions
from app.errors import EngineUnreachable
from app.generation.batch.written import TextStream, clean
from app.generation.upstream.upstream import Upstream
from app.generation.upstream.upstream_replies import Choice, Completion, finish_of
from app.generation.upstream.virtual_rewards import VirtualRewards

_SEEDS = 2**31
"""Servers differ in the seeds that they take; all take these."""


@dataclass(frozen=True)
class Written:
    """One completion, cleaned; ``tokens`` is None where the server did not count it by itself.

    ``choice`` is the server's own answer where it came in one piece.
    """

    text: str
    tokens: int | None
    finish: FinishReason
    choice: Choice | None = None


@dataclass(frozen=True)
class Texts:
    """The completions of one call, in the order of their seeds, and the prompt's tokens if the server told them."""

    written: Sequence[Written]
    prompt_tokens: int | None


def candidate_seed(seed: int, number: int) -> int:
    """The seed that the server gets for candidate ``number``: a function of both, in [0, 2**31)."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _SEEDS


class UpstreamTexts:
    """Asks ``upstream`` for candidates: a request each, or ``one_request`` for all of a call."""

    def __init__(self, upstream: Upstream, *, one_request: bool, virtual: VirtualRewards | None) -> None:
        """Prepare to ask; with ``virtual``, the server also tells what it takes to read rewards."""
        self._upstream, self._one_request, self._virtual = upstream, one_request, virtual

    async def draw(
        self, conversation: Conversation, n: int, options: SamplingOptions, *, at_once: int, until: float
    ) -> Texts:
        """Ask for ``n`` completions; the first failure, like a cancellation, ends all requests.

        Args:
            conversation: What is to be answered.
            n: Completions.
            options: How to sample.
            at_once: Requests at a time.
            until: Until when to try again what failed, on ``time.monotonic``.

        Raises:
            AttuneError: Whatever ``Upstream.complete`` raises, or ``EngineUnreachable`` for too few completions.
        """
        if self._one_request or n == 1:
            replies = [await self._upstream.complete(self._body(conversation, 0, options, n), until)]
        else:
            bodies = [self._body(conversation, number, options, 1) for number in range(n)]
            replies = await self._together(bodies, at_once, until)
        written = [one for reply in replies for one in _written(reply, n // len(replies))]
        usage = replies[0].usage
        return Texts(written, None if usage is None else usage.prompt_tokens)

    async def stream(
        self, conversation: Conversation, options: SamplingOptions, *, until: float
    ) -> AsyncGenerator[str | Texts, None]:
        """One completion in pieces that together are its text, then the whole.

        Arguments and errors as ``draw``.
        """
        pieces: list[str] = []
        certain = TextStream((), pieces.append)
        text = ""
        body = self._body(conversation, 0, options, 1, whole=False)
        async with aclosing(self._upstream.stream(body, until)) as answer:
            async for one in answer:
                if isinstance(one, str):
                    text += one
                    certain.advance(text)
                else:
                    finish, usage = one
                    certain.finish(clean(text))
                while pieces:
                    yield pieces.pop(0)
        tokens = None if usage is None else usage.completion_tokens
        whole = Written(clean(text), tokens, finish_of(finish))
        yield Texts([whole], None if usage is None else usage.prompt_tokens)

    async def _together(self, bodies: Sequence[dict[str, Any]], at_once: int, until: float) -> list[Completion]:
        """One reply a body; raises the first failure, after all other requests have been ended."""
        room = asyncio.Semaphore(at_once)

        async def ask(body: dict[str, Any]) -> Completion:
            async with room:
                return await self._upstream.complete(body, until)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(body)) for body in bodies]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    def _body(
        self, conversation: Conversation, number: int, options: SamplingOptions, n: int, *, whole: bool = True
    ) -> dict[str, Any]:
        """The request for candidate ``number``, or for ``n`` of them from there on."""
        body: dict[str, Any] = {
            "messages": [{"role": one.role, "content": one.content} for one in conversation],
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": candidate_seed(options.seed, number),
        }
        if options.stop:
            body["stop"] = list(options.stop)
        if n > 1:
            body["n"] = n
        if self._virtual is not None:
            body["messages"] = self._virtual.messages(conversation)
            body |= self._virtual.asked(options) if whole else self._virtual.unspoken()
        return body


def _written(reply: Completion, wanted: int) -> list[Written]:
    """The completions of one reply by their index; a single one is as long as the whole reply."""
    if len(reply.choices) != wanted:
        raise EngineUnreachable(
            f"The upstream server sent {len(reply.choices)} choices where {wanted} were asked for; if it does not "
            f"know 'n', have every candidate asked for in a request of its own."
        )
    counted = reply.usage.completion_tokens if reply.usage is not None and wanted == 1 else None
    ordered = sorted(reply.choices, key=lambda choice: choice.index)
    return [Written(clean(one.text), counted, finish_of(one.finish_reason), one) for one in ordered]
