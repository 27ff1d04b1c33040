"""The routes that do an engine's work: candidates, basis rewards, guided answers."""

import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from app.engine.host import HostOf, Loaded
from app.engine.metrics import EngineMetrics
from app.entities import Caller, CandidateSet, Steering
from app.errors import AttuneError, EngineTimeout, EngineUnreachable, GuidanceUnavailable, InvalidInput, Unavailable
from app.generation.remote.wire import (
    DELTA,
    ERROR,
    RESULT,
    CandidatesBody,
    CandidatesView,
    GuidedBody,
    RewardsBody,
    RewardsView,
)
from app.http.error_handlers import error_body, failure_of, request_id_of
from app.http.streaming import event, stream_items, unless_client_leaves

router = APIRouter(prefix="/v1", tags=["engine"])


def metrics_of(request: Request) -> EngineMetrics:
    """The metrics of this application."""
    return cast(EngineMetrics, request.app.state.metrics)


MetricsOf = Annotated[EngineMetrics, Depends(metrics_of)]


@router.post("/candidates", response_model=CandidatesView)
async def candidates(request: Request, body: CandidatesBody, host: HostOf, metrics: MetricsOf) -> Response:
    """``n`` completions of a prompt with their basis rewards, from one reading of the prompt."""
    loaded, conversation, options = host.need(), body.conversation(), body.options()
    steering = None if body.steering is None else body.steering.steering()
    _check_basis(body.basis_version, loaded)
    _check(steering, loaded, "steering.coefficients")
    work = loaded.engine.candidates(conversation, body.n, options, steering=steering, caller=body.caller())
    drawn = await unless_client_leaves(request, work)
    metrics.answered(drawn)
    return _json(_view(drawn, options.seed, loaded))


@router.post("/basis-rewards", response_model=RewardsView)
async def basis_rewards(request: Request, body: RewardsBody, host: HostOf) -> Response:
    """Basis rewards of texts written elsewhere, one row a text."""
    loaded = host.need()
    _check_basis(body.basis_version, loaded)
    rows = await unless_client_leaves(request, _read(loaded, body))
    return _json(RewardsView(basis_version=loaded.engine.basis_version, basis_rewards=rows))


@router.post(
    "/guided",
    response_model=CandidatesView,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Pieces, then the candidate; or it alone"}},
)
async def guided(request: Request, body: GuidedBody, host: HostOf, metrics: MetricsOf) -> Response:
    """One completion, guided by coefficients, as events ``delta``, ``result`` and ``error`` while it is written."""
    loaded, conversation, options = host.need(), body.conversation(), body.options()
    steering = body.steered(loaded.engine.steering)
    _check_basis(body.basis_version, loaded)
    _check(steering, loaded, "steering.coefficients" if body.coefficients is None else "coefficients")
    items = loaded.engine.stream(conversation, options, steering=steering, caller=body.caller())
    if not body.stream:
        drawn = await unless_client_leaves(request, _whole(items))
        metrics.answered(drawn)
        return _json(_view(drawn, options.seed, loaded))
    began, pieces = time.perf_counter(), 0

    def render(item: str | CandidateSet) -> Iterator[bytes]:
        nonlocal pieces
        if isinstance(item, str):
            if not pieces:
                metrics.first_piece.observe(time.perf_counter() - began)
            pieces += 1
            yield event({"text": item}, DELTA)
        else:
            metrics.answered(item)
            yield event(_view(item, options.seed, loaded).model_dump(mode="json"), RESULT)

    def fail(error: AttuneError) -> bytes:
        metrics.broke_off(error)
        return event(error_body(failure_of(error), request.url.path, request_id_of(request)), ERROR)

    return await stream_items(items, render, fail)


@router.post("/forget", status_code=204)
async def forget(host: HostOf) -> Response:
    """Drop every text and prompt that is kept for reuse."""
    await host.need().engine.forget()
    return Response(status_code=204)


def _check_basis(expected: str | None, loaded: Loaded) -> None:
    """Refuse before any work what was meant for an engine that this one has replaced."""
    if expected is not None and expected != loaded.engine.basis_version:
        raise EngineUnreachable(
            f"This engine serves basis {loaded.engine.basis_version}, and basis {expected} was asked for; give both "
            f"processes the same ATTUNE_ENGINE__BASIS."
        )


def _check(steering: Steering | None, loaded: Loaded, field: str) -> None:
    """Refuse before any work what this engine cannot do; ``field`` is where the coefficients stand in the body."""
    if steering is None:
        return
    if len(steering.coefficients) != loaded.size:
        raise InvalidInput(
            f"{len(steering.coefficients)} coefficients were sent, basis {loaded.engine.basis_version} has "
            f"{loaded.size} rewards; send one for each.",
            field=field,
        )
    missing = steering.kinds - loaded.engine.steering
    if missing:
        error = GuidanceUnavailable(min(missing))
        error.field = field.partition(".")[0]
        raise error


async def _read(loaded: Loaded, body: RewardsBody) -> list[list[float]]:
    """The rows in their order; neighbours with the same prompt are read together, and all in the body's time."""
    rows: list[list[float]] = []
    caller, began = body.caller(), time.monotonic()
    for conversation, pairs in groupby(body.pairs(), key=lambda pair: pair[0]):
        responses = [response for _, response in pairs]
        rows += (await loaded.engine.basis_rewards(conversation, responses, caller=caller)).tolist()
        caller = _what_is_left(body.caller(), time.monotonic() - began)
    return rows


def _what_is_left(caller: Caller, seconds: float) -> Caller:
    """The caller once ``seconds`` have passed; raises ``EngineTimeout`` where none are left."""
    if caller.timeout_seconds is None:
        return caller
    if seconds >= caller.timeout_seconds:
        raise EngineTimeout(caller.timeout_seconds)
    return replace(caller, timeout_seconds=caller.timeout_seconds - seconds)


async def _whole(items: AsyncGenerator[str | CandidateSet, None]) -> CandidateSet:
    """What a stream ends with."""
    try:
        async for item in items:
            if isinstance(item, CandidateSet):
                return item
    finally:
        await items.aclose()
    raise Unavailable("The engine ended a text without its rewards; try again.")


def _view(drawn: CandidateSet, seed: int, loaded: Loaded) -> CandidatesView:
    return CandidatesView.of(drawn, seed, loaded.engine.basis_version, loaded.engine.speed)


def _json(view: BaseModel) -> Response:
    """The view by its own serialiser: every float with the digits that give it back."""
    return Response(view.model_dump_json(), media_type="application/json")
