"""Questionnaires: start, look at, answer, continue and finish."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.api.dependencies import MetricsOf, ServicesOf
from app.api.responses import QuestionnaireView
from app.api.schemas import AnswerBody, StartQuestionnaireBody
from app.services.answer_question import GivenAnswer

router = APIRouter(prefix="/v1/questionnaires", tags=["questionnaires"])

QuestionnaireId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]


@router.post("", status_code=201)
async def start_questionnaire(
    body: StartQuestionnaireBody, response: Response, services: ServicesOf, metrics: MetricsOf
) -> QuestionnaireView:
    """Begin, with the first questions."""
    state = await services.start_questionnaire(body.user_id, body.options())
    metrics.questionnaire(state)
    response.headers["Location"] = f"/v1/questionnaires/{state.questionnaire.id}"
    return QuestionnaireView.of(state)


@router.get("/{questionnaire_id}")
async def get_questionnaire(questionnaire_id: QuestionnaireId, services: ServicesOf) -> QuestionnaireView:
    """The open questions, the same until they are answered."""
    return QuestionnaireView.of(await services.get_questionnaire(questionnaire_id))


@router.post("/{questionnaire_id}/answers")
async def answer_question(
    questionnaire_id: QuestionnaireId, body: AnswerBody, services: ServicesOf, metrics: MetricsOf
) -> QuestionnaireView:
    """Answer a question; the open ones come back, or the end. The same answer twice is harmless."""
    given = GivenAnswer(body.question_id, body.preferred, body.latency_ms)
    state = await services.answer_question(questionnaire_id, given)
    metrics.questionnaire(state)
    return QuestionnaireView.of(state)


@router.post("/{questionnaire_id}/next")
async def continue_questionnaire(
    questionnaire_id: QuestionnaireId, services: ServicesOf, metrics: MetricsOf
) -> QuestionnaireView:
    """Ask what follows in an active questionnaire that has no open question, as after a 503; change no other."""
    state = await services.continue_questionnaire(questionnaire_id)
    metrics.questionnaire(state)
    return QuestionnaireView.of(state)


@router.post("/{questionnaire_id}/finish")
async def finish_questionnaire(
    questionnaire_id: QuestionnaireId, services: ServicesOf, metrics: MetricsOf
) -> QuestionnaireView:
    """End a questionnaire early."""
    state = await services.finish_questionnaire(questionnaire_id)
    metrics.questionnaire(state)
    return QuestionnaireView.of(state)
