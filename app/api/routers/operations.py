"""What operators and probes ask."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from app.api.dependencies import MetricsOf, ReadinessCheck, ServicesOf
from app.errors import AttuneError

CHECK_SECONDS = 3.0

router = APIRouter(tags=["operations"])


class CheckView(BaseModel):
    """One check of readiness."""

    name: str
    ok: bool
    detail: str


class ReadinessView(BaseModel):
    """Whether the service can work, check by check."""

    ready: bool
    checks: list[CheckView]


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers; nothing else is looked at."""
    return {"status": "ok"}


@router.get("/readyz", response_model=ReadinessView, responses={503: {"model": ReadinessView}})
async def readyz(services: ServicesOf) -> JSONResponse:
    """Whether the service can work: 200, or 503 with the checks that failed."""
    checks = [await _run(name, check) for name, check in services.readiness.items()]
    view = ReadinessView(ready=all(check.ok for check in checks), checks=checks)
    return JSONResponse(view.model_dump(), status_code=200 if view.ready else 503)


@router.get("/metrics")
async def metrics(metrics: MetricsOf) -> Response:
    """Prometheus metrics."""
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


async def _run(name: str, check: ReadinessCheck) -> CheckView:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return CheckView(name=name, ok=True, detail=await check())
    except AttuneError as error:
        return CheckView(name=name, ok=False, detail=error.message)
    except TimeoutError:
        return CheckView(name=name, ok=False, detail=f"no answer within {CHECK_SECONDS:g} s")
