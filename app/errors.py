"""Every exception that attune raises on purpose.

AttuneError
├── NotFound                      the thing named does not exist
│   ├── UserNotFound
│   ├── QuestionnaireNotFound
│   ├── QuestionNotFound
│   └── ModelNotFound
├── Conflict                      the state does not allow it
│   ├── QuestionAlreadyAnswered
│   ├── QuestionnaireComplete
│   └── PreferencesChanged        If-Match names another version
├── InvalidInput                  the request itself is wrong
│   ├── PromptTooLong
│   ├── EmptyPrompt
│   ├── ConflictingUserId
│   ├── UnknownTopic
│   ├── UnknownAxis
│   ├── UnsupportedOption
│   └── GuidanceUnavailable       the engine has no value heads, or cannot guide in this way
├── PreconditionRequired          If-Match is missing
├── Unauthorized                  the bearer token is missing or wrong
├── Unavailable                   try again after a pause
│   ├── EngineOverloaded
│   │   └── UpstreamOverloaded    the server that generates for the engine asks for a pause
│   ├── EngineTimeout
│   ├── EngineUnreachable        no answer from the engine's process, or from its upstream
│   └── StorageUnavailable
├── NumericalFailure              nothing the caller can do
│   ├── PosteriorNotConverged
│   └── NonFiniteReward
├── ArtifactError                 a model, basis or pool that cannot be used: refuse to start
│   └── ArtifactIncompatible
└── ConfigurationError            a setting that cannot be used: refuse to start

Each class has a stable ``code``; messages name the value and the remedy. No HTTP here.
"""


class AttuneError(Exception):
    """Root of the tree; ``field`` names the request field at fault, where there is one."""

    code = "attune_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotFound(AttuneError):
    """The thing named does not exist."""

    code = "not_found"


class UserNotFound(NotFound):
    """No user has this id."""

    code = "user_not_found"

    def __init__(self, user_id: str) -> None:
        super().__init__(f"No user '{user_id}'; create it with PUT /v1/users/{user_id}.", field="user_id")


class QuestionnaireNotFound(NotFound):
    """No questionnaire has this id."""

    code = "questionnaire_not_found"

    def __init__(self, questionnaire_id: str) -> None:
        super().__init__(
            f"No questionnaire '{questionnaire_id}'; start one with POST /v1/questionnaires.", field="questionnaire_id"
        )


class QuestionNotFound(NotFound):
    """The questionnaire has not asked this question."""

    code = "question_not_found"

    def __init__(self, question_id: str) -> None:
        super().__init__(
            f"This questionnaire has not asked question '{question_id}'; answer the current one.", field="question_id"
        )


class ModelNotFound(NotFound):
    """No model has this name."""

    code = "model_not_found"

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        super().__init__(f"No model '{model}'; use one of: {', '.join(known)}.", field="model")


class Conflict(AttuneError):
    """The state does not allow it; trying again unchanged will not help."""

    code = "conflict"


class QuestionAlreadyAnswered(Conflict):
    """The question has another answer already, which stays."""

    code = "question_already_answered"

    def __init__(self, question_id: str, answer: str) -> None:
        super().__init__(
            f"Question '{question_id}' was answered '{answer}' and keeps that answer.", field="question_id"
        )


class QuestionnaireComplete(Conflict):
    """The questionnaire asks nothing more."""

    code = "questionnaire_complete"

    def __init__(self, questionnaire_id: str) -> None:
        super().__init__(f"Questionnaire '{questionnaire_id}' is complete; start another with POST /v1/questionnaires.")


class PreferencesChanged(Conflict):
    """If-Match names another version of the preferences than the current one."""

    code = "preferences_changed"

    def __init__(self, current: str) -> None:
        super().__init__(f"The preferences are now {current}; read them again, then send If-Match: {current}.")


class InvalidInput(AttuneError):
    """The request itself is wrong."""

    code = "invalid_input"


class PromptTooLong(InvalidInput):
    """Prompt and completion do not fit into the model's context."""

    code = "prompt_too_long"

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens and asks for {max_tokens} more, but the context holds {context}; "
            f"shorten the prompt or lower max_tokens.",
            field="prompt",
        )


class EmptyPrompt(InvalidInput):
    """The prompt has no text."""

    code = "empty_prompt"

    def __init__(self, field: str = "prompt") -> None:
        super().__init__(f"'{field}' is empty; send some text.", field=field)


class ConflictingUserId(InvalidInput):
    """Two fields name different users."""

    code = "conflicting_user_id"

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__(f"{' and '.join(fields)} name different users; send one of them.", field=fields[0])


class UnknownTopic(InvalidInput):
    """The question pool has no pair on this topic."""

    code = "unknown_topic"

    def __init__(self, topic: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"No questions on '{topic}'; leave topic out or use one of: {', '.join(known)}.", field="topic"
        )


class UnknownAxis(InvalidInput):
    """An adjustment names a basis reward that does not exist."""

    code = "unknown_axis"

    def __init__(self, index: int, count: int) -> None:
        super().__init__(f"No basis reward {index}; index runs from 0 to {count - 1}.", field="adjustments.index")


class UnsupportedOption(InvalidInput):
    """An option that would change the meaning of the answer and cannot be honoured."""

    code = "unsupported_option"

    def __init__(self, option: str) -> None:
        super().__init__(f"'{option}' is not supported; leave it out.", field=option)


class GuidanceUnavailable(InvalidInput):
    """The engine cannot steer in the way asked for."""

    code = "guidance_unavailable"

    def __init__(
        self,
        kind: str,
        why: str = "it has no value heads for it",
        *,
        remedy: str = "use best_of_n, or give the basis value heads with 'attune basis values'",
        field: str = "personalization.mode",
    ) -> None:
        super().__init__(f"This engine cannot do '{kind}' steering: {why}; {remedy}.", field=field)


class PreconditionRequired(AttuneError):
    """If-Match is missing."""

    code = "precondition_required"

    def __init__(self) -> None:
        super().__init__("Send If-Match with the ETag of the preferences you read.", field="If-Match")


class Unauthorized(AttuneError):
    """The bearer token is missing or wrong."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("Send 'Authorization: Bearer <token>' with this service's token.", field="Authorization")


class Unavailable(AttuneError):
    """Try again after ``retry_after_seconds``."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineOverloaded(Unavailable):
    """The engine's queue is full."""

    code = "engine_overloaded"

    def __init__(self, waiting: int, retry_after_seconds: int = 2) -> None:
        super().__init__(
            f"{waiting} requests are waiting for the engine; try again in {retry_after_seconds} s.",
            retry_after_seconds=retry_after_seconds,
        )


class UpstreamOverloaded(EngineOverloaded):
    """The server that generates for the engine asks for a pause."""

    def __init__(self, status: int, retry_after_seconds: int) -> None:
        Unavailable.__init__(
            self,
            f"The upstream server is overloaded, or limits how much it is asked (HTTP {status}); try again in "
            f"{retry_after_seconds} s.",
            retry_after_seconds=retry_after_seconds,
        )


class EngineTimeout(Unavailable):
    """The engine did not answer in time."""

    code = "engine_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The engine did not answer within {seconds:g} s; try again, or ask for fewer tokens.")


class EngineUnreachable(Unavailable):
    """The engine's process, or the upstream that generates for it, did not answer."""

    code = "engine_unreachable"


class StorageUnavailable(Unavailable):
    """The database cannot be reached."""

    code = "storage_unavailable"


class NumericalFailure(AttuneError):
    """A computation failed that should not."""

    code = "numerical_failure"


class PosteriorNotConverged(NumericalFailure):
    """Newton's method did not reach its tolerance."""

    code = "posterior_not_converged"


class NonFiniteReward(NumericalFailure):
    """The engine returned a reward that is not a number."""

    code = "non_finite_reward"


class ArtifactError(AttuneError):
    """A model, basis or pool on disk cannot be used."""

    code = "artifact_error"


class ArtifactIncompatible(ArtifactError):
    """An artifact was made for another model, size or format."""

    code = "artifact_incompatible"


class ConfigurationError(AttuneError):
    """A setting cannot be used; the process does not start."""

    code = "configuration_error"
