"""What callers send to our routes, with the limits of every field."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator

from app.api.dependencies import UserId
from app.entities import Answer, Conversation, Message, Mode, Preferred, QuestionSource, Role
from app.errors import EmptyPrompt, InvalidInput
from app.services.personal_belief import OnMissingUser
from app.services.respond import Explain, Personalization, Sampling
from app.services.start_questionnaire import QuestionnaireOptions

LONGEST_TEXT = 100_000
LONGEST_ABOUT = 4_000
LONGEST_QUESTION_PROMPT = 4_000
LARGEST_GENERATED_BATCH = 10
DEFAULT_MAX_TOKENS = 128
DEFAULT_TEMPERATURE = 0.8
DEFAULT_TOP_P = 0.95
CLOCK_TOLERANCE = timedelta(minutes=5)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""A database's session may show a time in a zone where the year 1 has not begun, which no driver can read back."""


def _storable(text: str) -> str:
    """Refuse what no database and no tokenizer takes."""
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain lone surrogates")
    return text


def _storable_tree(value: Any) -> Any:
    """The same for every string in a JSON value, at most 16 levels deep."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > 16:
            raise ValueError("must not be nested more than 16 levels deep")
        if isinstance(item, str):
            _storable(item)
        elif isinstance(item, dict):
            pending += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            pending += [(part, depth + 1) for part in item]
        elif isinstance(item, float) and item - item != 0.0:
            raise ValueError("must not contain NaN or infinity")
    return value


Text = Annotated[str, AfterValidator(_storable), StringConstraints(max_length=LONGEST_TEXT)]
FilledText = Annotated[Text, StringConstraints(pattern=r"\S")]
About = Annotated[Text, StringConstraints(max_length=LONGEST_ABOUT)]
QuestionPrompt = Annotated[FilledText, StringConstraints(max_length=LONGEST_QUESTION_PROMPT)]
Stop = Annotated[Text, StringConstraints(min_length=1, max_length=200)]


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


class Body(BaseModel):
    """A request body: no unknown fields, no numbers in quotes, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Turn(Body):
    """One message of a conversation."""

    role: Role
    content: Text


class PutUserBody(Body):
    """What is known about a person; a field left out keeps its value."""

    about: About | None = None
    consent: bool = True
    metadata: Annotated[dict[str, Any], AfterValidator(_storable_tree)] = {}


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


class PromptBody(Body):
    """A prompt, or the messages of a conversation; ``prompt`` may hold messages too."""

    prompt: Text | None = None
    messages: Annotated[list[Turn], Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _messages_as_prompt(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("prompt"), list) and "messages" not in value:
            return {**{key: item for key, item in value.items() if key != "prompt"}, "messages": value["prompt"]}
        return value

    def conversation(self, prefix: str = "") -> Conversation:
        """The conversation; ``prefix`` says where it stands in the body, for errors."""
        if self.prompt is not None and self.messages is not None:
            raise InvalidInput("Send prompt or messages, not both.", field=f"{prefix}prompt")
        if self.messages is not None:
            return to_conversation([(turn.role, turn.content) for turn in self.messages], f"{prefix}messages")
        if self.prompt is None or not self.prompt.strip():
            raise EmptyPrompt(f"{prefix}prompt")
        return (Message("user", self.prompt),)


def to_conversation(turns: list[tuple[Role, str]], field: str) -> Conversation:
    """Check the turns: none blank, system messages first, and the last one from the user."""
    for index, (role, content) in enumerate(turns):
        if not content.strip():
            raise EmptyPrompt(f"{field}.{index}.content")
        if role == "system" and any(earlier != "system" for earlier, _ in turns[:index]):
            raise InvalidInput("System messages come before all others.", field=f"{field}.{index}.role")
    if turns[-1][0] != "user":
        raise InvalidInput("The last message must be the user's.", field=f"{field}.{len(turns) - 1}.role")
    return tuple(Message(role, content) for role, content in turns)


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
    """How far the response is to be personal."""

    mode: Mode = "auto"
    n_candidates: Annotated[int, Field(ge=1, le=64)] | None = None
    strength: Annotated[float, Field(ge=0, le=100)] = 1.0
    explain: Explain = "summary"
    on_missing_user: OnMissingUser = "error"

    def for_user(self, user_id: str | None) -> Personalization:
        """The options as the use case takes them."""
        return Personalization(user_id, self.mode, self.n_candidates, self.strength, self.explain, self.on_missing_user)


class GenerationBody(PromptBody):
    """What to generate, for whom and how."""

    user_id: UserId | None = None
    personalization: PersonalizationBody = PersonalizationBody()
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Field(ge=0, le=2)] = DEFAULT_TEMPERATURE
    top_p: Annotated[float, Field(gt=0, le=1)] = DEFAULT_TOP_P
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool = False

    def sampling(self) -> Sampling:
        """The options as the use case takes them."""
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.seed, stops(self.stop))


class RankBody(PromptBody):
    """Responses to order for a person."""

    user_id: UserId
    responses: Annotated[list[FilledText], Field(min_length=1, max_length=64)]


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings as a tuple, however they were sent."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)
