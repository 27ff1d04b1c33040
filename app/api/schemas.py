"""What callers send to our routes, with the limits of every field."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, RootModel, StringConstraints, model_validator

from app.api.dependencies import UserId
from app.entities import Answer, Mode, Preferred, QuestionSource
from app.errors import InvalidInput
from app.http.bodies import Body, PromptBody, SamplingBody, Text, stops, storable
from app.services.modes import Explain, Personalization, Sampling, WantedGuidance
from app.services.personal_belief import OnMissingUser
from app.services.start_questionnaire import QuestionnaireOptions

LONGEST_ABOUT = 4_000
LONGEST_QUESTION_PROMPT = 4_000
LARGEST_GENERATED_BATCH = 10
CLOCK_TOLERANCE = timedelta(minutes=5)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""A database's session may show a time in a zone where the year 1 has not begun, which no driver can read back."""


def _storable_tree(value: Any) -> Any:
    """Refuse a JSON value with such a string anywhere in it, or more than 16 levels deep."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > 16:
            raise ValueError("must not be nested more than 16 levels deep")
        if isinstance(item, str):
            storable(item)
        elif isinstance(item, dict):
            pending += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            pending += [(part, depth + 1) for part in item]
        elif isinstance(item, float) and item - item != 0.0:
            raise ValueError("must not contain NaN or infinity")
    return value


FilledText = Annotated[Text, StringConstraints(pattern=r"\S")]
About = Annotated[Text, StringConstraints(max_length=LONGEST_ABOUT)]
QuestionPrompt = Annotated[FilledText, StringConstraints(max_length=LONGEST_QUESTION_PROMPT)]


def _past(moment: datetime) -> datetime:
    """The same moment in UTC; refuses one that no comparison can have been made at."""
    if moment.tzinfo is None:
        raise ValueError("needs a time zone, such as 2026-01-31T12:00:00Z")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the calendar") from None
    if moment > datetime.now(UTC) + CLOCK_TOLERANCE:
        raise ValueError("is in the future; send when the comparison was made, or leave it out")
    if moment < EARLIEST:
        raise ValueError(f"is before {EARLIEST:%Y-%m-%d}; send when the comparison was made, or leave it out")
    return moment


PastTime = Annotated[datetime, Field(strict=False), AfterValidator(_past)]


class PutUserBody(Body):
    """What is known about a person; a field left out keeps its value."""

    about: About | None = None
    consent: bool = True
    metadata: Annotated[dict[str, Any], AfterValidator(_storable_tree), Field(default_factory=dict)]


class AdjustmentBody(Body):
    """A change of one coefficient, in log-odds."""

    index: Annotated[int, Field(ge=0)]
    delta: Annotated[float, Field(ge=-100, le=100)]


class PatchPreferencesBody(Body):
    """A person's own corrections."""

    adjustments: Annotated[list[AdjustmentBody], Field(min_length=1, max_length=100)]


class StartQuestionnaireBody(Body):
    """For whom, how long, how many questions at once, and where they come from.

    ``prompts`` are for questions that the engine writes, in the place of the pool's prompts; with "auto", the pool's
    own questions are asked on its own prompts first. "generated" writes at most ten questions at once.
    """

    user_id: UserId
    max_questions: Annotated[int, Field(ge=1, le=100)] = 10
    target_certainty: Annotated[float, Field(gt=0, lt=1)] | None = None
    topic: FilledText | None = None
    batch_size: Annotated[int, Field(ge=1, le=50)] = 1
    source: QuestionSource = "pool"
    prompts: Annotated[list[QuestionPrompt], Field(min_length=1, max_length=100)] | None = None

    def options(self) -> QuestionnaireOptions:
        """The options as the use case takes them."""
        if self.prompts is not None and self.source == "pool":
            raise InvalidInput(
                "The pool has its own prompts; set source to generated or auto, or leave prompts out.", field="prompts"
            )
        if self.source == "generated" and self.batch_size > LARGEST_GENERATED_BATCH:
            raise InvalidInput(
                f"The engine writes at most {LARGEST_GENERATED_BATCH} questions at once, not {self.batch_size}; lower "
                f"batch_size, or set source to auto.",
                field="batch_size",
            )
        return QuestionnaireOptions(
            max_questions=self.max_questions,
            target_certainty=self.target_certainty,
            topic=self.topic,
            batch_size=self.batch_size,
            source=self.source,
            prompts=tuple(self.prompts or ()),
        )


class AnswerBody(Body):
    """What the person chose."""

    question_id: Annotated[Text, StringConstraints(min_length=1, max_length=64)]
    preferred: Answer
    latency_ms: Annotated[int, Field(ge=0, le=86_400_000)] | None = None


class ComparisonBody(PromptBody):
    """Two responses to one prompt, and which one a person prefers."""

    user_id: UserId
    first: FilledText
    second: FilledText
    preferred: Preferred
    about: About | None = None
    at: PastTime | None = None


class ComparisonsBody(Body):
    """Several comparisons."""

    comparisons: Annotated[list[ComparisonBody], Field(min_length=1, max_length=100)]


class OneOrManyComparisons(RootModel[ComparisonsBody]):
    """One comparison, a list of them, or an object with ``comparisons``."""

    @model_validator(mode="before")
    @classmethod
    def _as_many(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"comparisons": value}
        if isinstance(value, dict) and "comparisons" not in value:
            return {"comparisons": [value]}
        return value


class PersonalizationBody(Body):
    """How far the response is to be personal.

    ``mode``: off; best_of_n, the best of ``n_candidates`` (16 unless sent); guided, one response that the person's
    reward steers while it is written, or the best of ``n_candidates`` of them; auto, the way with the best measured
    win rate that is predicted to take at most ``latency_budget_ms``, with at most ``n_candidates``. ``guidance``: by
    token, by block, or by what the engine can. ``early_stopping`` ends candidates that are unlikely to be chosen, where
    one response comes back. With a ``choice_temperature`` above 0, in log-odds, the response is drawn among the
    candidates instead of the best. At ``temperature`` 0 there is one candidate, since all would be the same.
    """

    mode: Mode = "auto"
    n_candidates: Annotated[int, Field(ge=1, le=64)] | None = None
    strength: Annotated[float, Field(ge=0, le=100)] = 1.0
    explain: Explain = "summary"
    on_missing_user: OnMissingUser = "error"
    guidance: WantedGuidance = "auto"
    early_stopping: bool = False
    choice_temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    latency_budget_ms: Annotated[int, Field(ge=1, le=3_600_000)] | None = None

    def for_user(self, user_id: str | None) -> Personalization:
        """The options as the use case takes them."""
        return Personalization(user_id=user_id, **{name: getattr(self, name) for name in _OPTIONS})


_OPTIONS = tuple(PersonalizationBody.model_fields)


class GenerationBody(SamplingBody):
    """What to generate, for whom and how."""

    user_id: UserId | None = None
    personalization: PersonalizationBody = PersonalizationBody()
    stream: bool = False

    def sampling(self) -> Sampling:
        """The options as the use case takes them."""
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.seed, stops(self.stop))


class RankBody(PromptBody):
    """Responses to order for a person."""

    user_id: UserId
    responses: Annotated[list[FilledText], Field(min_length=1, max_length=64)]
