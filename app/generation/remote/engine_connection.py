"""A pool of connections to an engine's process: sending, waiting for it, and the errors that come back.

Knows paths and problems, not what a request means. Deadlines are the caller's.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2
import structlog
from pydantic import BaseModel, ValidationError

from app.errors import ConfigurationError, EngineUnreachable, Unavailable
from app.generation.remote.wire import ModelsView, ModelView
from app.generation.remote.wire_errors import error_of

LOOK_SECONDS = 2.0
PAUSE_SECONDS = 0.25
CONNECT_SECONDS = 5.0
KEEPALIVE_SECONDS = 4.0
"""Less than uvicorn keeps an idle connection, so that few requests meet one that is being closed."""

BROKEN = (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError)
"""How a connection ends that the other side has closed."""

log = structlog.get_logger("attune.engine")

View = TypeVar("View", bound=BaseModel)


class EngineConnection:
    """Speaks to the engine at ``url``.

    A request carries its seed and changes nothing there, so one whose connection broke before any byte came back is
    sent once more.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE_SECONDS
            ),
            trust_env=False,  # an engine is a neighbour: no proxy stands between
        )

    async def close(self) -> None:
        """Close all connections; calls under way end."""
        await self._http.aclose()

    @asynccontextmanager
    async def answer(self, path: str, body: BaseModel | None) -> AsyncIterator[httpx2.Response]:
        """The answer to a POST, still to be read; leaving early closes the connection, which stops the engine.

        Raises:
            AttuneError: What the engine's process raised, of the same class.
            EngineUnreachable: If the connection fails, also while the answer is read.
        """
        content = "" if body is None else body.model_dump_json(exclude_none=True)
        try:
            response = await self._send("POST", path, content)
            try:
                if not response.is_success:
                    problem = decoded(await response.aread())
                    raise error_of(response.status_code, problem, response.headers.get("retry-after"))
                yield response
            finally:
                await response.aclose()
        except httpx2.RequestError as error:
            raise _unreachable(error) from error

    async def look(self) -> ModelView:
        """What the engine says of itself now.

        Raises:
            ConfigurationError: If it refuses the token.
            Unavailable: If it is loading, draining or not there.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                response = await self._send("GET", "/v1/models")
                try:
                    content = await response.aread()
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.RequestError) as error:
            raise _unreachable(error) from error
        if response.status_code == 401:
            raise ConfigurationError(
                f"The engine at {self.url} refuses the token; set the same ATTUNE_ENGINE__TOKEN here and there."
            )
        if response.status_code != 200:
            raise error_of(response.status_code, decoded(content), response.headers.get("retry-after"))
        return read(ModelsView, content).data[0]

    async def wait(self, seconds: float) -> ModelView:
        """What the engine says of itself, once it is ready.

        Raises:
            ConfigurationError: If it refuses the token.
            EngineUnreachable: If it is not ready within ``seconds``.
        """
        until, told = time.monotonic() + seconds, False
        while True:
            try:
                return await self.look()
            except Unavailable as error:
                if time.monotonic() > until:
                    raise EngineUnreachable(
                        f"No engine was ready at {self.url} within {seconds:g} s ({error.message}); start one with "
                        f"'attune engine', or correct ATTUNE_ENGINE_URL."
                    ) from error
                if not told:
                    log.info("waiting_for_engine", url=self.url, why=error.code)
                    told = True
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, method: str, path: str, content: str = "") -> httpx2.Response:
        """Send, and once more where the connection breaks before anything came back."""
        headers = {"Content-Type": "application/json"} if content else {}
        request = self._http.build_request(method, path, content=content, headers=headers)
        try:
            return await self._http.send(request, stream=True)
        except BROKEN:
            return await self._http.send(request, stream=True)


def _unreachable(error: Exception) -> EngineUnreachable:
    """Callers of the service read this too: where the engine is, is none of their business."""
    return EngineUnreachable(f"The engine did not answer ({type(error).__name__}); try again.")


def decoded(content: str | bytes) -> Any:
    """The decoded body, or nothing where it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return {}


def read(kind: type[View], content: str | bytes) -> View:
    """The answer as ``kind``; raises ``EngineUnreachable`` where it is none."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise EngineUnreachable(
            f"The engine's answer is not one of this release ({problem['loc']}: {problem['msg']}); run the same "
            f"release in both processes."
        ) from None
