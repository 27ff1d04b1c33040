"""The journey: simulated people go through the real HTTP API, questionnaire first, then prompts.

Each person has a hidden taste that the service never sees. They answer questions by it, with
Bradley-Terry noise; after 0, 3, 5, 10 and 20 answers the service generates for them on prompts kept
out of all training, once with best-of-n and once plainly with the same seed, and the hidden taste
says which text wins. Two controls must lose the gain: answers in shuffled order, and another
person's account.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np

from app.training.metrics import Interval, interval
from app.training.people import SimulatedPeople, draw_tastes
from app.training.properties import PropertyScale

COUNTS = (0, 3, 5, 10, 20)
ARMS = ("personal", "shuffled", "swapped")


@dataclass(frozen=True)
class JourneyOptions:
    """Size of a journey; ``seed`` draws people, their noise and their prompts."""

    people: int = 40
    prompts_each: int = 20
    n_candidates: int = 16
    max_tokens: int = 96
    temperature: float = 0.8
    seed: int = 2024
    counts: tuple[int, ...] = COUNTS


@dataclass
class JourneyResult:
    """Win rate of each person (people,) by arm and number of answers, and the certainty they were told.

    ``oracle`` is the win rate when the hidden taste chooses. A draw counts one half. ``ended_early`` counts stages
    that a questionnaire ended before the number of answers was reached.
    """

    wins: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    oracle: list[float] = field(default_factory=list)
    certainty: dict[int, list[float]] = field(default_factory=dict)
    ended_early: int = 0

    def intervals(self) -> dict[str, dict[int, Interval]]:
        """Mean win rate with its interval over people."""
        rng = np.random.default_rng(0)
        return {arm: {t: interval(np.array(v), rng) for t, v in rows.items()} for arm, rows in self.wins.items()}


class Journey:
    """Runs simulated people against a service at ``client``'s base address."""

    def __init__(
        self, client: httpx2.Client, scale: PropertyScale, prompts: Sequence[str], options: JourneyOptions
    ) -> None:
        self.client, self.scale, self.prompts, self.options = client, scale, list(prompts), options
        self.rng = np.random.default_rng(options.seed)
        self.tastes = draw_tastes(options.people, self.rng)
        size = min(options.prompts_each, len(self.prompts))
        self.own_prompts = [self.rng.permutation(len(self.prompts))[:size] for _ in self.tastes]
        self.sides: list[list[str]] = [[] for _ in self.tastes]
        self.plain: dict[int, str] = {}
        self.run_id = uuid4().hex[:8]
        self.result = JourneyResult({arm: {t: [] for t in options.counts} for arm in ARMS}, [], {})

    def run(self, progress: Callable[[], None]) -> JourneyResult:
        """Every person through every stage; ``progress`` is called after each of them."""
        state = {
            arm: [self._enroll(self._user(arm, i)) for i in range(len(self.tastes))] for arm in ("personal", "shuffled")
        }
        answered = 0
        for count in self.options.counts:
            for number in range(len(self.tastes)):
                self._answer(state["personal"][number], number, count - answered, shuffled=False)
                self._answer(state["shuffled"][number], number, count - answered, shuffled=True)
            for number in range(len(self.tastes)):
                self._generate(number, count)
                progress()
            answered = count
        return self.result

    def _user(self, arm: str, number: int) -> str:
        """An id that no earlier run against the same service has used."""
        return f"journey-{self.run_id}-{arm}-{number}"

    def _enroll(self, user_id: str) -> str:
        self._call("PUT", f"/v1/users/{user_id}", {})
        started = self._call(
            "POST", "/v1/questionnaires", {"user_id": user_id, "max_questions": max(self.options.counts)}
        )
        return str(started["id"])

    def _answer(self, questionnaire: str, number: int, count: int, *, shuffled: bool) -> None:
        person = SimulatedPeople(self.tastes[number : number + 1], self.scale)
        noise = np.random.default_rng([self.options.seed, number, len(self.sides[number]), shuffled])
        order: list[str] = list(noise.permutation(self.sides[number][-count:])) if shuffled else []
        for index in range(count):
            question = self._call("GET", f"/v1/questionnaires/{questionnaire}")["question"]
            if question is None:
                self.result.ended_early += not shuffled
                return
            if shuffled:
                side = str(order[index % len(order)])
            else:
                first, second = person.rewards([question["first"], question["second"]])[0]
                side = "first" if noise.random() < 1 / (1 + np.exp(second - first)) else "second"
                self.sides[number].append(side)
            body = {"question_id": question["id"], "preferred": side}
            self._call("POST", f"/v1/questionnaires/{questionnaire}/answers", body)

    def _generate(self, number: int, count: int) -> None:
        following = (number + 1) % len(self.tastes)
        users = {
            "personal": self._user("personal", number),
            "shuffled": self._user("shuffled", number),
            "swapped": self._user("personal", following),
        }
        person = SimulatedPeople(self.tastes[number : number + 1], self.scale)
        wins: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for prompt in map(int, self.own_prompts[number]):
            texts = [self._respond(user, prompt, "best_of_n")["text"] for user in users.values()]
            *rewards, generic = person.rewards([*texts, self._plain(users["personal"], prompt)])[0]
            for arm, reward in zip(users, rewards, strict=True):
                wins[arm].append(_win(reward - generic))
        for arm in ARMS:
            self.result.wins[arm][count].append(float(np.mean(wins[arm])))
        if count == self.options.counts[0]:
            self.result.oracle.append(self._oracle(person, users["personal"], number))
        known = self._call("GET", f"/v1/users/{users['personal']}/preferences")
        self.result.certainty.setdefault(count, []).append(float(known["certainty"]))

    def _oracle(self, person: SimulatedPeople, user_id: str, number: int) -> float:
        """Win rate of the candidate that the hidden taste itself likes best."""
        wins = []
        for prompt in map(int, self.own_prompts[number]):
            candidates = self._respond(user_id, prompt, "best_of_n", "full")["personalization"]["candidates"]
            *rewards, generic = person.rewards([*(one["text"] for one in candidates), self._plain(user_id, prompt)])[0]
            wins.append(_win(max(rewards) - generic))
        return float(np.mean(wins))

    def _plain(self, user_id: str, prompt: int) -> str:
        """The answer without personalisation; it is the same for everybody."""
        if prompt not in self.plain:
            self.plain[prompt] = self._respond(user_id, prompt, "off")["text"]
        return self.plain[prompt]

    def _respond(self, user_id: str, prompt: int, mode: str, explain: str = "none") -> dict[str, Any]:
        options = self.options
        body = {
            "user_id": user_id,
            "prompt": self.prompts[prompt],
            "personalization": {"mode": mode, "n_candidates": options.n_candidates, "explain": explain},
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "seed": options.seed + prompt,
        }
        return self._call("POST", "/v1/generations", body)

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        response = (
            self.client.request(method, path, json=body) if body is not None else self.client.request(method, path)
        )
        response.raise_for_status()
        result: dict[str, Any] = response.json()
        return result


def _win(margin: float) -> float:
    """1 for a better text, 0 for a worse one, one half for a draw."""
    return 0.5 + 0.5 * float(np.sign(margin))
