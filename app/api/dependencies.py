"""Hands the use cases to the routes. Builds nothing: ``app.main`` does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request
from pydantic import StringConstraints

from app.api.metrics import Metrics
from app.services.adjust_preferences import AdjustPreferences
from app.services.answer_question import AnswerQuestion
from app.services.continue_questionnaire import ContinueQuestionnaire
from app.services.delete_user import DeleteUser
from app.services.estimate_preferences import EstimatePreferences
from app.services.export_user import ExportUser
from app.services.finish_questionnaire import FinishQuestionnaire
from app.services.get_questionnaire import GetQuestionnaire
from app.services.get_user import GetUser
from app.services.put_user import PutUser
from app.services.rank import RankResponses
from app.services.record_comparisons import RecordComparisons
from app.services.reset_preferences import ResetPreferences
from app.services.respond import Respond
from app.services.start_questionnaire import StartQuestionnaire
from app.services.stream_response import StreamResponse

ReadinessCheck = Callable[[], Awaitable[str]]
"""Says what it found; raises ``AttuneError`` where the service cannot work."""


@dataclass(frozen=True)
class Services:
    """Everything that the routes call."""

    model: str
    put_user: PutUser
    get_user: GetUser
    delete_user: DeleteUser
    export_user: ExportUser
    estimate_preferences: EstimatePreferences
    adjust_preferences: AdjustPreferences
    reset_preferences: ResetPreferences
    start_questionnaire: StartQuestionnaire
    get_questionnaire: GetQuestionnaire
    continue_questionnaire: ContinueQuestionnaire
    answer_question: AnswerQuestion
    finish_questionnaire: FinishQuestionnaire
    record_comparisons: RecordComparisons
    respond: Respond
    stream_response: StreamResponse
    rank: RankResponses
    readiness: Mapping[str, ReadinessCheck]

    @property
    def models(self) -> tuple[str, str]:
        """The names under which chat completions are offered: the base model, and the personal one."""
        return self.model, f"{self.model}:personal"


def services_of(request: Request) -> Services:
    """The services that the lifespan built."""
    return cast(Services, request.app.state.services)


def metrics_of(request: Request) -> Metrics:
    """The metrics of this application."""
    return cast(Metrics, request.app.state.metrics)


USER_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@+\-]{0,63}$"

UserId = Annotated[str, StringConstraints(pattern=USER_ID_PATTERN)]
UserIdPath = Annotated[str, Path(pattern=USER_ID_PATTERN, description="1 to 64 letters, digits and . _ : @ + -")]
ServicesOf = Annotated[Services, Depends(services_of)]
MetricsOf = Annotated[Metrics, Depends(metrics_of)]
