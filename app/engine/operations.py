"""What operators, probes and clients ask about the engine."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app.engine.host import HostOf
from app.engine.routes import MetricsOf
from app.errors import AttuneError, Unavailable
from app.generation.remote.wire import HeldBasis, ModelsView, ModelView, SpeedView

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers, also while the model loads."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(host: HostOf) -> JSONResponse:
    """Whether the engine takes on work: 200, or 503 with the reason."""
    try:
        engine = host.admit().engine
        if not await engine.ready():
            raise Unavailable("The engine takes on no work now.")
        ready, detail = True, f"{engine.model} with basis {engine.basis_version}"
    except AttuneError as error:
        ready, detail = False, error.message
    body: dict[str, Any] = {"ready": ready, "checks": [{"name": "engine", "ok": ready, "detail": detail}]}
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics(metrics: MetricsOf) -> Response:
    """Prometheus metrics."""
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models")
async def models(request: Request, host: HostOf) -> ModelsView:
    """The base model, the basis that is loaded, and what the engine can do with them."""
    loaded = host.admit()
    engine, speed = loaded.engine, loaded.engine.speed
    model = ModelView(
        id=engine.model,
        created=int(host.started_at.timestamp()),
        backend=loaded.backend,
        release=request.app.version,
        bases=[HeldBasis(version=engine.basis_version, K=loaded.size)],
        steering=sorted(engine.steering),
        speed=None if speed is None else SpeedView(step=speed.step, row=speed.row),
    )
    return ModelsView(data=[model])
