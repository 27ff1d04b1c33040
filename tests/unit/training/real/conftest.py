"""Made-up people in the data sets' formats: nobody's answers are real."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.training.evaluation.real.texts import RawFeatures

PEOPLE, JOKES, STATEMENTS, TOPICS, QUESTIONS = 30, 24, 40, 6, 12
MODELS = ("ann", "bob", "cy")


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of all four sets, to be read only."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    _jester(folder / "jester5k", rng)
    _polis(folder / "polis_votes", rng)
    _ukp(folder / "ukpconvarg1", rng)
    _mt_bench(folder / "mt_bench_human", rng)
    return folder


@pytest.fixture
def own_data(data, tmp_path):
    """The same folder, to be changed."""
    return Path(shutil.copytree(data, tmp_path / "data"))


@pytest.fixture
def plain_features(monkeypatch):
    """Two numbers a text instead of a language model's states."""

    def features(read, model):
        sizes = np.array([[len(one.response), len(one.conversation)] for one in read], dtype=np.float64)
        return RawFeatures(sizes + 0.1 * np.arange(len(read))[:, None] ** 0.5, sizes)

    monkeypatch.setattr("app.training.evaluation.real.build.raw_features", features)


def _jester(folder, rng):
    write_lines(folder / "jokes.jsonl.gz", [{"joke_id": f"j{n}", "text": f"joke {n}"} for n in range(JOKES)])
    ratings = np.round(rng.uniform(-10, 10, (PEOPLE, JOKES)), 2)
    rows = [{"user": f"u{n}", "ratings": {f"j{j}": v for j, v in enumerate(row)}} for n, row in enumerate(ratings)]
    write_lines(folder / "ratings.jsonl.gz", rows)


def _polis(folder, rng):
    towns = ("north", "south")
    statements = [
        {"conversation": town, "statement_id": str(n), "text": f"{town} {n}"}
        for town in towns
        for n in range(STATEMENTS)
    ]
    write_lines(folder / "statements.jsonl.gz", statements)
    votes = rng.choice([1, 1, 0, -1, -1], (PEOPLE, STATEMENTS)).tolist()
    rows = [
        {
            "conversation": towns[n % 2],
            "user": f"{towns[n % 2]}/{n}",
            "votes": {str(s): vote for s, vote in enumerate(row)},
        }
        for n, row in enumerate(votes)
    ]
    write_lines(folder / "votes.jsonl.gz", rows)


def _ukp(folder, rng):
    arguments = [
        {"arg_id": f"t{t}s{s}n{n}", "title": f"topic {t}", "stance": f"side {s}", "text": "word " * (1 + n + t)}
        for t in range(TOPICS)
        for s in range(2)
        for n in range(5)
    ]
    write_lines(folder / "arguments.jsonl.gz", arguments)
    rows = []
    for worker in range(PEOPLE):
        for topic in range(TOPICS):
            for _ in range(8):
                stance, (a, b) = rng.integers(2), rng.permutation(5)[:2]
                choice = ("a", "b", "equal")[rng.integers(3)]
                ids = {"a": f"t{topic}s{stance}n{a}", "b": f"t{topic}s{stance}n{b}"}
                rows.append({"user": f"w{worker}", **ids, "choice": choice})
    write_lines(folder / "comparisons.jsonl.gz", rows)


def _mt_bench(folder, rng):
    questions = [{"question_id": q, "turns": [f"first {q}?", f"second {q}?"]} for q in range(QUESTIONS)]
    answers = [
        {"question_id": q, "model": model, "turns": [f"{model} one {q}", f"{model} two {q}"]}
        for q in range(QUESTIONS)
        for model in MODELS
    ]
    write_lines(folder / "questions.jsonl.gz", questions)
    write_lines(folder / "answers.jsonl.gz", answers)
    rows = []
    for judge in range(PEOPLE):
        for question in range(QUESTIONS):
            for turn in (1, 2, 1, 2):
                a, b = rng.permutation(MODELS)[:2]
                winner = ("model_a", "model_b", "tie")[rng.integers(3)]
                rows.append(
                    {
                        "judge": f"expert_{judge}",
                        "question_id": question,
                        "turn": turn,
                        "model_a": str(a),
                        "model_b": str(b),
                        "winner": winner,
                    }
                )
    write_lines(folder / "human_votes.jsonl.gz", rows)
