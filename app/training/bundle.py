"""Makes the comparisons that the bundled basis is learned from, and the texts that they are about.

Three kinds of text, so that the rewards hold on what the service scores: the bundled model's own
generations, real replies to the same prompt, and the question pool. Simulated people compare them;
the real people of UKPConvArg1 compare arguments. Which is which stays in the names: ``sim:`` and
``ukp:``. About half of the simulated people say what they like in a few words.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from app.entities import Conversation, Message
from app.rewards.pool import PoolPrompt
from app.training.abouts import write_about
from app.training.dataset import RawComparison
from app.training.language.corpus import read_conversations
from app.training.people import choose, draw_tastes
from app.training.properties import PropertyScale

PER_PERSON = {"own": 40, "real": 25, "pool": 35}
PER_HELD_OUT_PERSON = {"own": 240, "real": 25, "pool": 60}
"""More of those whom calibration and scores are about: with few choices behind each, what came true is mostly noise."""
WRITE_ABOUT = 0.5
SIMULATED, REAL = "sim:", "ukp:"
Group = tuple[Conversation, tuple[str, ...]]


@dataclass(frozen=True)
class Texts:
    """Responses grouped by prompt, by kind of text."""

    own: list[Group]
    real: list[Group]
    pool: list[Group]

    def scale(self) -> PropertyScale:
        """Standard scores over the three kinds in equal parts."""
        kinds = [[text for _, texts in groups for text in texts] for groups in (self.own, self.real, self.pool)]
        size = min(len(kind) for kind in kinds)
        rng = np.random.default_rng(0)
        return PropertyScale.of([kind[i] for kind in kinds for i in rng.permutation(len(kind))[:size]])


def user(prompt: str) -> Conversation:
    """A conversation of one user turn."""
    return (Message("user", prompt),)


def real_groups(data: Path) -> list[Group]:
    """Prompts of the shipped conversations with two or more different real replies."""
    replies: dict[str, list[str]] = defaultdict(list)
    for one in read_conversations(data):
        if len(one.turns) == 2 and one.turns[0][0] == "user":
            replies[one.turns[0][1]].append(one.turns[1][1])
    groups = ((user(prompt), tuple(dict.fromkeys(texts))) for prompt, texts in replies.items())
    return [group for group in groups if len(group[1]) >= 2]


def generation_prompts(data: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Short prompts of the training split for the model to answer, drawn without replacement."""
    prompts = {
        one.turns[0][1]: None
        for one in read_conversations(data)
        if one.domain in ("dolly", "oasst") and not one.held_out and 15 <= len(one.turns[0][1]) <= 160
    }
    ordered = sorted(prompts)
    return [ordered[i] for i in rng.permutation(len(ordered))[:count]]


def simulated_comparisons(texts: Texts, people: int, rng: np.random.Generator) -> Iterator[RawComparison]:
    """Comparisons of ``people`` new simulated people, each over pairs of every kind of text.

    Those whom ``simulated_part`` holds out write of themselves in wordings of their own.
    """
    kinds = {
        kind: [(prompt, *pair) for prompt, responses in groups for pair in combinations(responses, 2)]
        for kind, groups in (("own", texts.own), ("real", texts.real), ("pool", texts.pool))
    }
    distinct = list(dict.fromkeys(text for pairs in kinds.values() for pair in pairs for text in pair[1:]))
    scores = texts.scale().standardise(distinct)
    row = {text: number for number, text in enumerate(distinct)}
    for number, taste in enumerate(draw_tastes(people, rng)):
        name = f"{SIMULATED}{number}"
        held_out = simulated_part(name) > 0
        writes = rng.random() < WRITE_ABOUT
        about = write_about(taste, rng, held_out=held_out) if writes else None
        for kind, count in (PER_HELD_OUT_PERSON if held_out else PER_PERSON).items():
            pairs = [kinds[kind][i] for i in rng.integers(0, len(kinds[kind]), count)]
            first, second = (scores[[row[pair[side]] for pair in pairs]] @ taste for side in (1, 2))
            answers = choose(first, second, rng)
            for (prompt, one, other), answer in zip(pairs, answers, strict=True):
                yield RawComparison(name, prompt, one, other, "first" if answer else "second", about)


def simulated_part(name: str) -> int:
    """Part of a simulated person, who was made for it: 0 training (four fifths), 1 calibration, 2 test."""
    return {8: 1, 9: 2}.get(int(name.removeprefix(SIMULATED)) % 10, 0)


def real_comparisons(data: Path, fewest: int = 20) -> Iterator[RawComparison]:
    """UKPConvArg1: which argument on a topic a worker found more convincing, for workers with enough of them."""
    folder = data / "ukpconvarg1"
    arguments = {row["arg_id"]: row for row in _lines(folder / "arguments.jsonl.gz")}
    rows = list(_lines(folder / "comparisons.jsonl.gz"))
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["user"]] += 1
    names = {"a": "first", "b": "second", "equal": "tie"}
    for row in rows:
        if counts[row["user"]] >= fewest:
            a, b = arguments[row["a"]], arguments[row["b"]]
            prompt = user(f"{a['title']}\n{a['stance']}".strip())
            yield RawComparison(f"{REAL}{row['user']}", prompt, a["text"], b["text"], names[row["choice"]])


def pool_groups(pool: Sequence[PoolPrompt]) -> list[Group]:
    """The question pool's prompts with their responses."""
    return [(user(one.prompt), one.responses) for one in pool]


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
