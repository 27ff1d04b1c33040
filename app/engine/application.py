"""Builds the inference server's application around an engine that loads in the background."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from app.engine import operations, routes
from app.engine.host import Host, Load, Loaded, WorkCount
from app.engine.metrics import EngineMetrics
from app.generation.remote.wire import LARGEST_BODY
from app.http import error_handlers
from app.http.middleware import BearerToken, BodyLimit, RequestContext

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_engine_app(load: Load, *, token: str | None, give_up: Callable[[], None] = lambda: None) -> FastAPI:
    """The inference server; ``/livez`` answers at once, the rest when ``load`` has returned.

    ``give_up`` is called when loading failed; ``app.state.host.error`` then says why.
    """
    release = version("attune")
    host, metrics = Host(load, give_up), EngineMetrics(release)
    app = FastAPIOffline(
        title="attune engine",
        version=release,
        summary="Candidates with their basis rewards, and decoding guided by any mix of them.",
        lifespan=_lifespan(host, metrics),
    )
    app.state.host, app.state.metrics = host, metrics
    error_handlers.install(app)
    bearer = Security(HTTPBearer(auto_error=False, description="The engine's token, where one is set."))
    app.include_router(routes.router, dependencies=[bearer])
    app.include_router(operations.router)
    app.add_middleware(BodyLimit, largest=LARGEST_BODY)
    app.add_middleware(WorkCount, host=host)
    app.add_middleware(BearerToken, token=token)
    app.add_middleware(RequestContext, metrics=metrics)
    return app


def _lifespan(host: Host, metrics: EngineMetrics) -> Lifespan:
    def watch(loaded: Loaded) -> None:
        metrics.watch(loaded.engine, loaded.collectors)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(host.run(metrics, watch))
        loading.add_done_callback(host.ended)
        try:
            yield
        finally:
            host.draining = True
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            if host.loaded is not None:
                await host.loaded.engine.close()

    return lifespan
