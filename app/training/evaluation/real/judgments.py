"""People who each judged pairs of texts: ukpconvarg1's arguments, mt_bench_human's answers.

Texts belong to topics. Both people and topics are held out: held-out people are asked about topics that training
people were learned from, and predicted on topics of which nothing was learned.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.entities import Message
from app.training.evaluation.problem import Pairs, Problem, TestPerson
from app.training.evaluation.real.held_out import (
    check_known,
    check_training,
    choose_held_out,
    is_enough,
    left_out,
    with_random_sides,
)
from app.training.evaluation.real.lines import Line, folder_of, read_lines
from app.training.evaluation.real.texts import Text

HELD_OUT_TOPICS = 0.35
"""Share of the topics that people are predicted on."""

Featurise = Callable[[Bool[np.ndarray, " rows"]], Float64[np.ndarray, "rows hidden"]]
"""Features of all texts, standardised on the marked ones."""


@dataclass(frozen=True)
class Judged:
    """Comparisons (N,) of ``texts``: who judged (an index of ``names``) and what; the topic (rows,) of each text.

    All of it was read from ``folder``.
    """

    name: str
    folder: Path
    texts: tuple[Text, ...]
    topics: tuple[str, ...]
    names: tuple[str, ...]
    people: Int64[np.ndarray, " comparisons"]
    pairs: Pairs

    @classmethod
    def of(
        cls,
        folder: Path,
        name: str,
        texts: Sequence[Text],
        topics: Sequence[str],
        rows: Sequence[tuple[str, int, int, float]],
    ) -> "Judged":
        """Index people of ``rows``: person, first text, second text and label."""
        people, first, second, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
        names, person = np.unique(np.array(people, dtype=np.str_), return_inverse=True)
        pairs = Pairs(np.array(first, np.int64), np.array(second, np.int64), np.array(labels, np.float64))
        return cls(name, folder, tuple(texts), tuple(topics), tuple(names.tolist()), person.astype(np.int64), pairs)


def read_ukp(data: Path) -> Judged:
    """Which of two arguments a worker found more convincing; both stances on an issue are one topic."""
    folder = folder_of(data, "ukpconvarg1", "comparisons.jsonl.gz")
    index: dict[str, int] = {}
    texts: list[Text] = []
    topics: list[str] = []
    for line in read_lines(folder / "arguments.jsonl.gz"):
        index[line.text("arg_id")] = len(texts)
        title, stance, argument = line.text("title"), line.text("stance"), line.text("text")
        texts.append(Text((Message("user", f"{title}\n{stance}"),), argument, argument))
        topics.append(title)
    labels = {"a": 1.0, "b": 0.0, "equal": 0.5}
    rows = [
        (line.text("user"), *_sides(line, "a", "b", index), labels[line.one_of("choice", labels)])
        for line in read_lines(folder / "comparisons.jsonl.gz")
    ]
    return Judged.of(folder, "ukpconvarg1", texts, topics, rows)


def read_mt_bench(data: Path) -> Judged:
    """Which of two models' answers a judge preferred; a question with its two turns is one topic.

    A vote on the second turn is about the whole conversation: the text is the second answer after the first exchange,
    and what is counted in it is counted in both answers.
    """
    folder = folder_of(data, "mt_bench_human", "human_votes.jsonl.gz")
    questions = {line.text("question_id"): line.texts("turns", 2) for line in read_lines(folder / "questions.jsonl.gz")}
    index: dict[str, int] = {}
    texts: list[Text] = []
    topics: list[str] = []
    for line in read_lines(folder / "answers.jsonl.gz"):
        question = line.one_of("question_id", questions)
        asked, answers = questions[question], line.texts("turns", 2)
        opening = (Message("user", asked[0]),)
        index[_key(question, "1", line.text("model"))] = len(texts)
        index[_key(question, "2", line.text("model"))] = len(texts) + 1
        followed = (*opening, Message("assistant", answers[0]), Message("user", asked[1]))
        texts += [Text(opening, answers[0], answers[0]), Text(followed, answers[1], "\n\n".join(answers))]
        topics += [question, question]
    labels = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
    rows = [
        (line.text("judge"), *_models(line, index), labels[line.one_of("winner", labels)])
        for line in read_lines(folder / "human_votes.jsonl.gz")
    ]
    return Judged.of(folder, "mt_bench_human", texts, topics, rows)


def judged_problem(judged: Judged, seed: int, test_users: Set[str] | None, features: Featurise) -> Problem:
    """Draw held-out topics and people; ``features`` may look at the texts that are learned from."""
    check_known(test_users or frozenset(), judged.names, judged.folder)
    rng = np.random.default_rng(seed)
    names = np.unique(judged.topics)
    unseen = np.isin(judged.topics, rng.permutation(names)[: max(1, round(HELD_OUT_TOPICS * len(names)))])
    pairs = with_random_sides(judged.pairs, rng)
    inside, outside = (side[pairs.first] & side[pairs.second] for side in (~unseen, unseen))
    people = [
        TestPerson(name, part(pairs, inside & mine), part(pairs, outside & mine))
        for name, mine in ((name, judged.people == number) for number, name in enumerate(judged.names))
    ]
    able = np.array([is_enough(one.asked, one.predicted) for one in people], dtype=bool)
    held = choose_held_out(judged.names, able, test_users, rng)
    learned = inside & ~held[judged.people]
    check_training(judged.name, len(np.unique(judged.people[learned])), int(held.sum()))
    training = part(pairs, learned)
    known = np.zeros(len(judged.texts), dtype=bool)
    known[training.first] = known[training.second] = True
    return Problem(
        name=judged.name,
        features=features(known),
        rows=len(judged.texts),
        training=training,
        training_people=np.unique(judged.people[learned], return_inverse=True)[1].astype(np.int64),
        people=tuple(one for one, chosen in zip(people, held & able, strict=True) if chosen),
        rank=None,
        left_out=left_out(judged.names, able, held),
    )


def part(pairs: Pairs, members: Bool[np.ndarray, " pairs"]) -> Pairs:
    """The marked pairs."""
    labels: Float64[np.ndarray, " part"] = pairs.labels[members]
    return Pairs(pairs.first[members], pairs.second[members], labels)


def _sides(line: Line, first: str, second: str, index: dict[str, int]) -> tuple[int, int]:
    return index[line.one_of(first, index)], index[line.one_of(second, index)]


def _models(line: Line, index: dict[str, int]) -> tuple[int, int]:
    question, turn = line.text("question_id"), line.text("turn")
    keys = [_key(question, turn, line.text(field)) for field in ("model_a", "model_b")]
    for key in keys:
        if key not in index:
            raise line.fault(f"votes on {key}, which answers.jsonl.gz does not have")
    return index[keys[0]], index[keys[1]]


def _key(question: str, turn: str, model: str) -> str:
    return f"turn {turn} of question {question} by {model}"
