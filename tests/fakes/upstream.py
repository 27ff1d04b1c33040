"""An OpenAI-compatible server on a real socket that fails as it is told to; its texts are functions of hashes."""

import asyncio
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

MODEL = "fake-model"
WORDS = "all tea is warm and new soup can rest by day or night so sit down now".split()
LENGTH = 40


@dataclass
class Scripted:
    """What the next requests get in place of an answer: ``status`` with ``body``, or lines of a stream."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    lines: list[str] | None = None


class FakeUpstream:
    """``with FakeUpstream() as upstream``: serves at ``upstream.url`` from a thread of its own.

    ``bodies`` and ``keys`` are what requests brought; ``broken_off`` counts those whose client left early.
    ``token_seconds`` is how long every word takes. ``next`` are answers to the next requests in order, whoever sends
    them; ``decide`` may choose an answer by the request's body.
    """

    def __init__(self) -> None:
        self.reset()
        config = uvicorn.Config(self._app(), port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def reset(self) -> None:
        """Forget what came, and answer as at first."""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.next: deque[Scripted] = deque()
        self.decide: Callable[[dict[str, Any]], Scripted | None] = lambda body: None
        self.models: list[str] = [MODEL]
        self.models_status = 200
        self.token_seconds = 0.0
        self.tells_usage = True
        self.most_at_once = self.broken_off = self._at_once = 0

    def __enter__(self) -> "FakeUpstream":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)

    async def asked(self, requests: int) -> None:
        """Wait until so many requests have come."""
        await _until(lambda: len(self.bodies) >= requests)

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        await _until(lambda: not self._at_once)

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.get("/v1/models")(self._list)
        app.post("/v1/chat/completions")(self._complete)
        return app

    async def _list(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization"))
        if self.models_status != 200:
            return JSONResponse({"error": {"message": "no models"}}, self.models_status)
        return JSONResponse({"object": "list", "data": [{"id": name} for name in self.models]})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization"))
        scripted = self.decide(body) or (self.next.popleft() if self.next else None)
        if scripted is not None and scripted.lines is None:
            if isinstance(scripted.body, str):
                return PlainTextResponse(scripted.body, scripted.status, scripted.headers)
            return JSONResponse(scripted.body, scripted.status, scripted.headers)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if body.get("stream"):
            lines = _stream_lines(body, tells_usage=self.tells_usage) if scripted is None else scripted.lines
            return StreamingResponse(self._streamed(lines or []), media_type="text/event-stream")
        try:
            return await self._whole(request, body)
        finally:
            self._at_once -= 1

    async def _whole(self, request: Request, body: dict[str, Any]) -> Response:
        choices, tokens = [], 0
        for index in range(body.get("n", 1)):
            text, finish, count = _written(body, index)
            tokens += count
            choices.append({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish})
        until = time.monotonic() + self.token_seconds * tokens / len(choices)
        while time.monotonic() < until:
            if await request.is_disconnected():
                self.broken_off += 1
                break
            await asyncio.sleep(0.005)
        usage = {"prompt_tokens": _words_in(body), "completion_tokens": tokens}
        return JSONResponse({"choices": choices, "usage": usage if self.tells_usage else None})

    async def _streamed(self, lines: list[str]) -> AsyncIterator[str]:
        complete = False
        try:
            for line in lines:
                yield line
                await asyncio.sleep(self.token_seconds)
            complete = True
        finally:
            self.broken_off += not complete
            self._at_once -= 1


async def _until(condition: Callable[[], bool]) -> None:
    """Look again and again: what is waited for happens in another thread."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def event(content: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content)}\n\n"


def piece(text: str, finish: str | None = None) -> str:
    """The event of one piece of text."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def _stream_lines(body: dict[str, Any], *, tells_usage: bool) -> list[str]:
    """The same text as without streaming, with comments, an empty delta, and events cut in two."""
    text, finish, count = _written(body, 0)
    lines = [": hello\n\n", event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})]
    for word in text.split(" "):
        whole = piece(word if word == text.split(" ")[0] else f" {word}")
        lines += [whole[:17], whole[17:]]
    lines += [event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})]
    if tells_usage and body.get("stream_options", {}).get("include_usage"):
        lines += [event({"choices": [], "usage": {"prompt_tokens": _words_in(body), "completion_tokens": count}})]
    return [*lines, "data: [DONE]\n\n"]


def _written(body: dict[str, Any], index: int) -> tuple[str, str, int]:
    """Text, finish reason and words of a choice: by messages, seed and index alone, greedily by messages alone."""
    source = [body["messages"]] + ([body.get("seed"), index] if body["temperature"] > 0 else [])
    digest = hashlib.sha256(json.dumps(source).encode()).digest() * 2
    words = [WORDS[byte % len(WORDS)] for byte in digest[:LENGTH]]
    most = body.get("max_tokens") or body["max_completion_tokens"]
    kept = words[:most]
    text = " ".join(kept)
    places = [text.find(stop) for stop in body.get("stop", ()) if stop in text]
    if places:
        return text[: min(places)], "stop", len(kept)
    return text, "stop" if len(kept) == LENGTH else "length", len(kept)


def _words_in(body: dict[str, Any]) -> int:
    return sum(len(message["content"].split()) for message in body["messages"])
