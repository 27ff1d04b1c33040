"""How a response is going to be made: what was asked for, and what follows from it. Calls no engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.entities import DecodingSpeed, FrontierPoint, Guidance, Mode, Steering, SteeringKind
from app.errors import GuidanceUnavailable, InvalidInput
from app.preferences.choice import cautious_coefficients
from app.services.choose_mode import ALL_THE_SAME, DEFAULT_CANDIDATES, Circumstances, choose_point
from app.services.personal_belief import OnMissingUser, ServedBelief

DROP_BELOW = 0.05
"""Chance of becoming the best of its set below which early stopping ends a candidate."""

Explain = Literal["none", "summary", "full"]
UsedMode = Literal["off", "best_of_n", "guided"]
WantedGuidance = Literal["auto", "token", "block"]


@dataclass(frozen=True)
class Personalization:
    """How far, and for whom, the response is to be personal.

    ``guidance`` refines the mode guided, ``early_stopping`` and ``choice_temperature`` whatever draws several
    candidates; ``latency_budget_ms`` is for auto.
    """

    user_id: str | None = None
    mode: Mode = "auto"
    n_candidates: int | None = None
    strength: float = 1.0
    explain: Explain = "summary"
    on_missing_user: OnMissingUser = "error"
    guidance: WantedGuidance = "auto"
    early_stopping: bool = False
    choice_temperature: float = 0.0
    latency_budget_ms: int | None = None


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn; without a ``seed``, by a random one. ``count`` responses come back.

    At ``temperature`` 0 all candidates are the same.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None = None
    stop: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class Plan:
    """What to ask the engine for: ``n`` candidates under ``steering``; ``reason`` says why, where that is not plain."""

    mode: UsedMode
    n: int
    steering: Steering | None = None
    reason: str | None = None

    @property
    def guidance(self) -> Guidance:
        """How the person's reward acts on the words."""
        return "none" if self.steering is None else self.steering.guidance


@dataclass(frozen=True)
class Abilities:
    """What plans must know of the engine and of what was measured of it."""

    steering: frozenset[SteeringKind]
    speed: DecodingSpeed | None
    frontier: Sequence[FrontierPoint]


def make_plan(wanted: Personalization, sampling: Sampling, served: ServedBelief, engine: Abilities) -> Plan:
    """The plan for a request.

    Raises ``GuidanceUnavailable`` where the engine cannot do what was asked for by name, and ``InvalidInput`` where
    more responses than candidates are asked for. Auto asks for nothing that the engine cannot do.
    """
    if not served.consent:
        return Plan("off", sampling.count, reason="The person has not agreed to personal responses.")
    if wanted.mode == "off" or wanted.strength == 0.0:
        return Plan("off", sampling.count)
    asked = wanted.n_candidates
    if asked is not None and asked < sampling.count:
        raise InvalidInput(f"n is {sampling.count}, more than n_candidates, {asked}; raise n_candidates.", field="n")
    if wanted.mode == "auto":
        return _automatic(wanted, sampling, served, engine)
    if wanted.early_stopping and "early_stopping" not in engine.steering:
        why, remedy = _lacking(engine.steering), "leave early_stopping out"
        raise GuidanceUnavailable("early_stopping", why, remedy=remedy, field="personalization.early_stopping")
    if wanted.mode == "guided":
        guidance = _guidance(wanted.guidance, engine.steering)
        return _plan("guided", max(asked or 1, sampling.count), wanted, sampling, served, guidance=guidance)
    return _plan("best_of_n", max(asked or DEFAULT_CANDIDATES, sampling.count), wanted, sampling, served)


def _guidance(wanted: WantedGuidance, able: frozenset[SteeringKind]) -> Guidance:
    kinds: tuple[Literal["token", "block"], ...] = ("token", "block") if wanted == "auto" else (wanted,)
    for kind in kinds:
        if kind in able:
            return kind
    if wanted == "auto" or not able & {"token", "block"}:
        raise GuidanceUnavailable("guided" if wanted == "auto" else wanted, _lacking(able))
    raise GuidanceUnavailable(wanted, _lacking(able), remedy="leave guidance out", field="personalization.guidance")


def _lacking(able: frozenset[SteeringKind]) -> str:
    """Why something cannot be done by an engine that is ``able`` to do this."""
    return f"all it can do is {', '.join(sorted(able))}" if able else "it has no value heads for it"


def _automatic(wanted: Personalization, sampling: Sampling, served: ServedBelief, engine: Abilities) -> Plan:
    circumstances = Circumstances(
        able=engine.steering,
        speed=engine.speed,
        max_tokens=sampling.max_tokens,
        most=wanted.n_candidates,
        count=sampling.count,
        guidance=wanted.guidance,
        budget_seconds=None if wanted.latency_budget_ms is None else wanted.latency_budget_ms / 1000,
        varied=sampling.temperature > 0.0,
    )
    choice = choose_point(engine.frontier, circumstances)
    point = choice.point
    if point.mode == "off":
        return Plan("off", sampling.count, reason=choice.reason)
    early = point.drop_below or (DROP_BELOW if wanted.early_stopping and "early_stopping" in engine.steering else 0.0)
    return _plan(
        point.mode,
        max(point.n, sampling.count),
        wanted,
        sampling,
        served,
        guidance=point.guidance,
        drop_below=early,
        reason=choice.reason,
    )


def _plan(
    mode: UsedMode,
    n: int,
    wanted: Personalization,
    sampling: Sampling,
    served: ServedBelief,
    *,
    guidance: Guidance = "none",
    drop_below: float | None = None,
    reason: str | None = None,
) -> Plan:
    """A plan whose steering and candidates are there only if they do something.

    Several responses are never stopped early: an engine drops what is unlikely to be the best, and the second best may
    be among that.
    """
    if sampling.temperature == 0.0 and n > sampling.count:
        n, reason = sampling.count, reason or ALL_THE_SAME
    if drop_below is None:
        drop_below = DROP_BELOW if wanted.early_stopping else 0.0
    if n == 1 or sampling.count > 1:
        drop_below = 0.0
    if guidance == "none" and drop_below == 0.0:
        return Plan(mode, n, None, reason)
    taste = served.belief.mean
    if guidance == "none":  # the choice will go by the cautious margin, so that its favourites must not be stopped
        taste = cautious_coefficients(served.belief, served.basis.prior.population, strength=wanted.strength)
    coefficients = tuple(float(value) for value in taste)
    return Plan(mode, n, Steering(coefficients, guidance, wanted.strength, drop_below=drop_below), reason)
