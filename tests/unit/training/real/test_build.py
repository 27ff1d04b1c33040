import numpy as np
import pytest

from app.errors import InvalidInput
from app.training.evaluation.real import REAL_PEOPLE, build_problem
from app.training.evaluation.real.judgments import read_mt_bench, read_ukp
from app.training.evaluation.real.texts import RawFeatures

JUDGED = ("ukpconvarg1", "mt_bench_human")
KNOWN = {"jester5k": "u3", "polis_votes": "south/3", "ukpconvarg1": "w3", "mt_bench_human": "expert_3"}


def sizes(texts, model):
    """The length of each text and nothing else."""
    lengths = np.array([[float(len(one.response))] for one in texts])
    return RawFeatures(lengths, lengths)


pytestmark = pytest.mark.usefixtures("plain_features")
every_set = pytest.mark.parametrize("name", REAL_PEOPLE)
judged_sets = pytest.mark.parametrize("name", JUDGED)


def rows_of(pairs):
    return set(pairs.first.tolist()) | set(pairs.second.tolist())


def same(one, other):
    return all(np.array_equal(getattr(one, column), getattr(other, column)) for column in ("first", "second", "labels"))


@every_set
def test_nobody_is_predicted_on_a_text_they_may_be_asked_about(data, name):
    people = build_problem(name, data, 0).people
    assert people
    assert not any(rows_of(person.asked) & rows_of(person.predicted) for person in people)


@judged_sets
def test_nobody_is_predicted_on_a_text_that_was_learned_from(data, name):
    problem = build_problem(name, data, 0)
    learned = rows_of(problem.training)
    assert not any(learned & rows_of(person.predicted) for person in problem.people)


def test_both_stances_on_a_held_out_issue_are_held_out(data):
    problem = build_problem("ukpconvarg1", data, 0)
    issues = {row // 10 for row in rows_of(problem.training)}
    predicted = {row // 10 for person in problem.people for row in rows_of(person.predicted)}
    assert not issues & predicted


def test_both_turns_of_a_held_out_question_are_held_out(data):
    problem = build_problem("mt_bench_human", data, 0)
    questions = {row // 6 for row in rows_of(problem.training)}
    predicted = {row // 6 for person in problem.people for row in rows_of(person.predicted)}
    assert not questions & predicted


@every_set
def test_the_preferred_text_is_on_either_side_about_equally_often(data, name):
    labels = build_problem(name, data, 0).training.labels
    assert abs(labels.mean() - 0.5) < 0.06


@every_set
def test_the_same_seed_draws_the_same_problem(data, name):
    one, other = build_problem(name, data, 4), build_problem(name, data, 4)
    assert [person.name for person in one.people] == [person.name for person in other.people]
    assert same(one.training, other.training)
    assert all(same(a.predicted, b.predicted) for a, b in zip(one.people, other.people, strict=True))


@every_set
def test_another_seed_holds_out_other_people(data, name):
    one, other = build_problem(name, data, 0), build_problem(name, data, 1)
    assert {person.name for person in one.people} != {person.name for person in other.people}


@every_set
def test_a_third_is_held_out_where_a_hundred_people_are_too_many(data, name):
    assert len(build_problem(name, data, 0).people) == 10


@every_set
def test_exactly_the_test_users_are_held_out(data, name):
    problem = build_problem(name, data, 0, frozenset({KNOWN[name]}))
    assert [person.name for person in problem.people] == [KNOWN[name]]
    assert len(np.unique(problem.training_people)) == 29


@every_set
def test_unknown_test_users_are_named(data, name):
    strangers = frozenset({KNOWN[name], *(f"stranger{number}" for number in range(7))})
    with pytest.raises(
        InvalidInput, match=rf"7 of 8 test users .* 30 people of .*{name}: stranger0, .*stranger4 and 2 more"
    ):
        build_problem(name, data, 0, strangers)


@every_set
def test_nobody_to_learn_from_is_refused(data, name):
    prefix = KNOWN[name][:-1]
    everyone = {f"{prefix}{number}" for number in range(30)}
    if name == "polis_votes":
        everyone = {f"{('north', 'south')[number % 2]}/{number}" for number in range(30)}
    with pytest.raises(InvalidInput, match="With 30 people held out, 0 are left"):
        build_problem(name, data, 0, frozenset(everyone))


@every_set
def test_a_handful_to_learn_from_is_refused(data, name):
    people = {person.name for seed in range(40) for person in build_problem(name, data, seed).people}
    held = frozenset(sorted(people)[:21])
    with pytest.raises(InvalidInput, match=r"With 21 people held out, 9 are left .* 10 are needed"):
        build_problem(name, data, 0, held)


@judged_sets
def test_the_source_tells_how_often_the_first_side_wins_as_recorded(data, name):
    judged = {"ukpconvarg1": read_ukp, "mt_bench_human": read_mt_bench}[name](data)
    labels = judged.pairs.labels
    expected = (labels == 1.0).sum() / (labels != 0.5).sum()
    assert build_problem(name, data, 0).source.first_share == pytest.approx(expected)


def test_texts_read_alike_on_either_side_are_found_alike(data, monkeypatch):
    monkeypatch.setattr("app.training.evaluation.real.build.raw_features", sizes)
    assert build_problem("ukpconvarg1", data, 0).source.sides_alike


def test_texts_whose_features_depend_on_their_place_are_found_different(data):
    """The features of these tests grow with the place of a text."""
    assert not build_problem("ukpconvarg1", data, 0).source.sides_alike


@every_set
def test_the_own_folder_of_a_set_serves_as_well_as_the_folder_of_all(data, name):
    assert same(build_problem(name, data / name, 0).training, build_problem(name, data, 0).training)


@every_set
def test_training_people_are_numbered_without_gaps(data, name):
    people = build_problem(name, data, 0).training_people
    assert np.array_equal(np.unique(people), np.arange(people.max() + 1))


@judged_sets
def test_features_are_standardised_on_the_texts_learned_from(data, name):
    problem = build_problem(name, data, 0)
    known = sorted(rows_of(problem.training))
    assert np.abs(problem.features[known].mean(axis=0)).max() < 1e-9


def test_a_vote_on_the_second_turn_is_about_the_second_answer(data):
    problem = build_problem("mt_bench_human", data, 0)
    pairs = problem.training
    assert np.array_equal(pairs.first % 2, pairs.second % 2)


def test_ties_stay_ties(data):
    assert (build_problem("ukpconvarg1", data, 0).training.labels == 0.5).mean() == pytest.approx(1 / 3, abs=0.05)


def test_an_unknown_set_is_refused_with_the_known_ones(data):
    with pytest.raises(InvalidInput, match="choose one of jester5k"):
        build_problem("jester6k", data, 0)


@every_set
def test_a_missing_set_is_refused_with_the_folder(tmp_path, name):
    with pytest.raises(InvalidInput, match=f"Neither .*{name}"):
        build_problem(name, tmp_path, 0)
