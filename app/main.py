"""Builds the application: every object in the lifespan, closed in reverse order of creation."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from app.api.dependencies import ReadinessCheck, Services
from app.api.metrics import Metrics
from app.api.routers import comparisons, generations, openai, operations, preferences, questionnaires, users
from app.config import QuestionSettings, Settings
from app.engines import ActiveBasis, Engine, open_engine
from app.errors import ArtifactIncompatible, AttuneError, ConfigurationError, StorageUnavailable, Unavailable
from app.http import error_handlers
from app.http.middleware import BearerToken, BodyLimit, RequestContext
from app.services.adjust_preferences import AdjustPreferences
from app.services.answer_question import AnswerQuestion
from app.services.continue_questionnaire import ContinueQuestionnaire
from app.services.delete_user import DeleteUser
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimator
from app.services.export_user import ExportUser
from app.services.finish_questionnaire import FinishQuestionnaire
from app.services.generated_questions import GeneratedQuestions
from app.services.get_questionnaire import GetQuestionnaire
from app.services.get_user import GetUser
from app.services.next_questions import NextQuestions
from app.services.personal_belief import PersonalBelief
from app.services.pool_questions import PoolQuestions
from app.services.put_user import PutUser
from app.services.rank import RankResponses
from app.services.record_comparisons import RecordComparisons
from app.services.reset_preferences import ResetPreferences
from app.services.respond import Respond
from app.services.start_questionnaire import StartQuestionnaire
from app.services.stream_response import StreamResponse
from app.storage.database import Database
from app.storage.migrations import current_revision, newest_revision, upgrade

ROUTERS = (users, preferences, questionnaires, comparisons, generations, openai)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: Settings) -> FastAPI:
    """The service; it opens its database and its engine when it starts. Its ``/docs`` need no other host."""
    release = version("attune")
    app = FastAPIOffline(
        title="attune",
        version=release,
        summary="Answers in each person's taste, learned from a few questions.",
        lifespan=_lifespan(settings),
    )
    app.state.metrics = Metrics(release)
    app.state.started_at = utc_now()
    app.state.start_error = None
    error_handlers.install(app)
    bearer = Security(HTTPBearer(auto_error=False, description="The service's token, where one is set."))
    for resource in ROUTERS:
        app.include_router(resource.router, dependencies=[bearer])
    app.include_router(operations.router)
    app.add_middleware(BodyLimit)
    app.add_middleware(BearerToken, token=settings.token)
    app.add_middleware(RequestContext, metrics=app.state.metrics)
    return app


def utc_now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


def _lifespan(settings: Settings) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                database = Database(settings.database)
                stack.push_async_callback(database.close)
                await _prepare(database, embedded=settings.embedded)
                engine, active = await open_engine(settings.engine, settings.engine_url)
                stack.push_async_callback(engine.close)
                _check_fit(engine, active)
                active.prepare()
            except AttuneError as error:
                app.state.start_error = error
                raise
            app.state.metrics.watch(engine)
            app.state.services = build_services(database, engine, active, settings)
            yield

    return lifespan


async def _prepare(database: Database, *, embedded: bool) -> None:
    """Migrate the service's own file; refuse anybody else's database that is not at this release's schema."""
    if embedded:
        await upgrade(database)
        return
    found, expected = await current_revision(database), newest_revision()
    if found != expected:
        raise ConfigurationError(
            f"The database is at schema {found or 'none'}, this release needs {expected}; run 'attune migrate'."
        )


def _check_fit(engine: Engine, active: ActiveBasis) -> None:
    """Engine, basis and pool must speak of the same basis rewards."""
    versions = {engine.basis_version, active.basis.version, active.pool.basis_version}
    if len(versions) > 1:
        raise ArtifactIncompatible(f"Engine, basis and pool have different versions: {', '.join(sorted(versions))}.")


def build_services(database: Database, engine: Engine, active: ActiveBasis, settings: Settings) -> Services:
    """Every use case, with the ports it needs."""
    begin, clock, rng = database.begin, utc_now, np.random.default_rng()
    estimator = Estimator(active, settings.preferences.half_life_days)
    estimate = EstimatePreferences(begin, estimator, engine)
    asking = next_questions(engine, active, settings.questions, rng)
    following = ContinueQuestionnaire(begin, estimator, estimate, asking)
    belief = PersonalBelief(active, estimate)
    respond = Respond(belief, engine, clock, rng)
    return Services(
        model=engine.model,
        put_user=PutUser(begin, clock),
        get_user=GetUser(begin),
        delete_user=DeleteUser(begin, clock, engine),
        export_user=ExportUser(begin, estimate),
        estimate_preferences=estimate,
        adjust_preferences=AdjustPreferences(begin, estimator, estimate, clock),
        reset_preferences=ResetPreferences(begin, estimator, clock),
        start_questionnaire=StartQuestionnaire(begin, estimator, estimate, asking, clock),
        get_questionnaire=GetQuestionnaire(begin, estimator),
        continue_questionnaire=following,
        answer_question=AnswerQuestion(begin, estimator, estimate, following, engine, clock),
        finish_questionnaire=FinishQuestionnaire(begin, estimator),
        record_comparisons=RecordComparisons(begin, active, engine, clock),
        respond=respond,
        stream_response=StreamResponse(respond),
        rank=RankResponses(belief, engine),
        readiness=readiness_checks(database, engine, active),
    )


def next_questions(
    engine: Engine, active: ActiveBasis, settings: QuestionSettings, rng: np.random.Generator
) -> NextQuestions:
    """Where questions come from, and when they end."""
    pool = PoolQuestions(active, rng, settings.rule)
    generated = GeneratedQuestions(
        active, engine, rng, settings.candidates, settings.max_tokens, settings.timeout_seconds
    )
    return NextQuestions(pool, generated, utc_now, rng, settings.minimum_change)


def readiness_checks(database: Database, engine: Engine, active: ActiveBasis) -> dict[str, ReadinessCheck]:
    """What ``/readyz`` looks at."""

    async def reachable() -> str:
        await database.ping()
        return "answers"

    async def schema() -> str:
        found, expected = await current_revision(database), newest_revision()
        if found != expected:
            raise StorageUnavailable(f"at {found or 'none'}, needs {expected}; run 'attune migrate'")
        return f"at {found}"

    async def loaded() -> str:
        if not await engine.ready():
            raise Unavailable(f"{engine.model} takes on no work now")
        return f"{engine.model} takes on work"

    async def basis() -> str:
        _check_fit(engine, active)
        return f"{active.basis.version} with {len(active.basis.axes)} axes and {len(active.pool.pairs)} pairs"

    return {"database": reachable, "schema": schema, "engine": loaded, "basis": basis}
