import json

import numpy as np
import pytest

from app.errors import InvalidInput
from app.training.evaluation.real import build_problem
from app.training.evaluation.real.ratings import pairs_apart, read_jester, read_polis
from tests.unit.training.real.conftest import write_lines

ITEMS, VALUES = np.array([7, 3, 9, 5]), np.array([1.0, 1.4, 3.0, -2.0])


def test_only_values_apart_make_pairs():
    pairs = pairs_apart(ITEMS, VALUES, 1.0, 100, np.random.default_rng(0))
    assert {frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)} == {
        frozenset(pair) for pair in ((7, 9), (7, 5), (3, 9), (3, 5), (9, 5))
    }


def test_the_item_with_the_larger_value_is_preferred():
    pairs = pairs_apart(ITEMS, VALUES, 1.0, 100, np.random.default_rng(0))
    value = dict(zip(ITEMS.tolist(), VALUES.tolist(), strict=True))
    larger = [value[one] > value[other] for one, other in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    assert pairs.labels.tolist() == [float(one) for one in larger]


def test_no_more_pairs_than_wanted_are_drawn():
    assert len(pairs_apart(ITEMS, VALUES, 1.0, 3, np.random.default_rng(0))) == 3


def test_other_people_in_a_copy_of_the_data_do_not_change_a_persons_pairs(own_data):
    before = build_problem("jester5k", own_data, 0, frozenset({"u3"})).people[0]
    path = own_data / "jester5k" / "ratings.jsonl.gz"
    ratings = {f"j{number}": float(number) for number in range(24)}
    people = [{"user": one.name, "ratings": _ratings(one)} for one in read_jester(own_data).raters]
    write_lines(path, [{"user": "newcomer", "ratings": ratings}, *people])
    after = build_problem("jester5k", own_data, 0, frozenset({"u3"})).people[0]
    assert np.array_equal(before.predicted.first, after.predicted.first)


def test_passes_make_no_pairs(data):
    rated = read_polis(data)
    problem = build_problem("polis_votes", data, 0)
    person = next(one for one in rated.raters if one.name == problem.people[0].name)
    passed = set(person.items[person.values == 0.0].tolist())
    assert passed
    assert not passed & set(problem.people[0].asked.first.tolist())


def test_statements_of_two_conversations_never_meet(data):
    pairs = build_problem("polis_votes", data, 0).training
    assert np.array_equal(pairs.first < 40, pairs.second < 40)


def test_test_users_with_too_few_answers_are_neither_asked_nor_learned_from(own_data):
    people = [{"user": one.name, "ratings": _ratings(one)} for one in read_jester(own_data).raters]
    people[3]["ratings"] = {"j0": 1.0, "j1": 5.0}
    write_lines(own_data / "jester5k" / "ratings.jsonl.gz", people)
    problem = build_problem("jester5k", own_data, 0, frozenset({"u3", "u4"}))
    assert [person.name for person in problem.people] == ["u4"]
    assert len(np.unique(problem.training_people)) == 28
    assert problem.left_out == ("u3",)


def test_test_users_who_all_answered_too_little_are_refused(own_data):
    people = [{"user": one.name, "ratings": _ratings(one)} for one in read_jester(own_data).raters]
    people[3]["ratings"] = {"j0": 1.0, "j1": 5.0}
    write_lines(own_data / "jester5k" / "ratings.jsonl.gz", people)
    with pytest.raises(InvalidInput, match="people with more answers"):
        build_problem("jester5k", own_data, 0, frozenset({"u3"}))


def test_others_whose_ratings_all_agree_leave_nothing_to_learn(own_data):
    person = read_jester(own_data).raters[3]
    rows = [{"user": "u3", "ratings": _ratings(person)}, {"user": "flat", "ratings": {"j0": 1.0, "j1": 1.0}}]
    write_lines(own_data / "jester5k" / "ratings.jsonl.gz", rows)
    with pytest.raises(InvalidInput, match="0 are left whose comparisons 'jester5k'"):
        build_problem("jester5k", own_data, 0, frozenset({"u3"}))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"user": "u9"}', "'ratings' must be an object"),
        ('{"user": "u9", "ratings": {"j1": "good"}}', "not a finite number"),
        ('{"user": "u9", "ratings": {"j1": NaN}}', "not a finite number"),
        ('{"user": "u9", "ratings": {"j99": 1.0}}', "jokes.jsonl.gz does not have"),
        ('{"ratings": {"j1": 1.0}}', "'user' must be a non-empty string"),
    ],
)
def test_a_malformed_rating_is_named_with_its_line(own_data, line, fault):
    write_lines(
        own_data / "jester5k" / "ratings.jsonl.gz", [json.dumps({"user": "u1", "ratings": {"j1": 1.0}}), "", line]
    )
    with pytest.raises(InvalidInput, match=f"line 3: .*{fault}"):
        read_jester(own_data)


@pytest.mark.parametrize(
    ("votes", "fault"), [({"1": 2}, "not 1, 0 or -1"), ({"77": 1}, "statements.jsonl.gz does not have")]
)
def test_a_malformed_vote_is_named_with_its_line(own_data, votes, fault):
    write_lines(
        own_data / "polis_votes" / "votes.jsonl.gz", [{"conversation": "north", "user": "north/1", "votes": votes}]
    )
    with pytest.raises(InvalidInput, match=f"line 1: .*{fault}"):
        read_polis(own_data)


def _ratings(rater):
    return {f"j{item}": value for item, value in zip(rater.items.tolist(), rater.values.tolist(), strict=True)}
