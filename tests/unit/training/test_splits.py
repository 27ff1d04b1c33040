import numpy as np
import pytest

from app.entities import Message
from app.training.dataset import ComparisonData, RawComparison
from app.training.splits import Splits

PEOPLE, TOPICS = 50, 40


def prompt(topic):
    return (Message("user", f"topic {topic}\nside"),)


@pytest.fixture(scope="module")
def data():
    """Everyone compares responses on every topic; the first five topics have five times as many texts."""
    lines = [
        RawComparison(f"u{person}", prompt(topic), f"a{person % 5}", f"b{copy}", "first", about=f"I am {person}")
        for person in range(PEOPLE)
        for topic in range(TOPICS)
        for copy in range(5 if topic < 5 else 1)
    ]
    return ComparisonData.of(lines)


@pytest.fixture(scope="module")
def splits(data):
    return Splits.draw(data, np.random.default_rng(0), training_only=[prompt(7)], decided={"u3": 2})


def test_a_tenth_of_the_people_each_is_for_calibration_and_test(splits):
    counts = np.bincount(splits.part)
    assert counts[0] + counts[1] + counts[2] == PEOPLE
    assert abs(counts[1] - 5) <= 1
    assert abs(counts[2] - 5) <= 1


def test_people_whose_part_was_decided_are_in_it(data, splits):
    assert splits.part[data.names.index("u3")] == 2


def test_a_topic_is_held_out_as_a_whole(data, splits):
    held = {p[0].content for (p, _), out in zip(data.rows, splits.held_out, strict=True) if out}
    kept = {p[0].content for (p, _), out in zip(data.rows, splits.held_out, strict=True) if not out}
    assert not held & kept
    assert len(held) in {7, 8}


def test_large_topics_are_held_out_as_often_as_small_ones(data):
    held = [Splits.draw(data, np.random.default_rng(seed)).held_out for seed in range(20)]
    large = np.array([p[0].content.split("\n")[0] in {f"topic {i}" for i in range(5)} for p, _ in data.rows])
    sizes = [len({data.rows[i][0] for i in np.flatnonzero(out & large)}) for out in held]
    assert set(sizes) == {1}


def test_prompts_for_training_only_are_never_held_out(data):
    for seed in range(20):
        drawn = Splits.draw(data, np.random.default_rng(seed), training_only=[prompt(0)])
        assert not any(drawn.held_out[i] for i, (p, _) in enumerate(data.rows) if p == prompt(0))


def test_training_comparisons_touch_neither_held_out_people_nor_held_out_texts(data, splits):
    use = splits.training(data)
    assert (splits.part[data.people[use]] == 0).all()
    assert not splits.held_out[data.first[use]].any()
    assert not splits.held_out[data.second[use]].any()


def test_recorded_people_are_asked_on_training_texts_and_predicted_on_the_others(data, splits):
    rewards = splits.held_out[:, None] * np.arange(len(data.rows), dtype=np.float64)[:, None]
    people = splits.recorded(data, rewards, splits.part == 2, most=3)
    assert len(people) == 3
    assert all((one.asked == 0).all() and (one.predicted != 0).all() for one in people)
    assert {one.about for one in people} <= set(data.about)


def test_only_texts_of_the_kind_are_predicted(data, splits):
    none = splits.recorded(
        data, np.zeros((len(data.rows), 1)), splits.part == 2, most=9, kind=np.zeros(len(data.rows), dtype=bool)
    )
    assert none == []


@pytest.mark.parametrize(("topics", "expected"), [(1, 0), (2, 1), (4, 1), (5, 1), (10, 2)])
def test_a_topic_is_held_out_from_two_on(topics, expected):
    lines = [RawComparison("u", prompt(topic), "a", "b", "first") for topic in range(topics)]
    splits = Splits.draw(ComparisonData.of(lines), np.random.default_rng(0))
    assert splits.held_out.sum() == 2 * expected
