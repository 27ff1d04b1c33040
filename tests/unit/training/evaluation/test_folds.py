from dataclasses import replace

import numpy as np

from app.training.evaluation.folds import Fold
from app.training.evaluation.problem import Pairs
from tests.unit.training.evaluation.small import draw_problem


def grouped_problem():
    """As the small problem, with every pair a group of texts of its own."""
    problem = draw_problem()
    count = len(problem.training)
    training = Pairs(np.arange(count), np.arange(count) + count, problem.training.labels)
    features = np.random.default_rng(0).standard_normal((2 * count, 3))
    return replace(problem, features=features, rows=2 * count, training=training)


def test_people_set_aside_are_not_learned_from():
    problem = grouped_problem()
    fold = Fold.draw(problem, np.random.default_rng(0))
    aside = set(problem.training_people[fold.asked])
    assert len(aside) == 4
    assert not aside & set(problem.training_people[fold.learned])


def test_what_is_predicted_lies_on_texts_that_nobody_was_trained_on():
    problem = grouped_problem()
    fold = Fold.draw(problem, np.random.default_rng(0))
    seen = fold.learned | fold.asked
    trained = {*problem.training.first[seen], *problem.training.second[seen]}
    assert fold.predicted.any()
    assert not trained & {*problem.training.first[fold.predicted], *problem.training.second[fold.predicted]}


def test_items_without_features_are_shared_and_parted_person_by_person():
    problem = replace(draw_problem(), features=None)
    fold = Fold.draw(problem, np.random.default_rng(0))
    aside = np.unique(problem.training_people[fold.asked])
    for person in aside:
        mine = problem.training_people == person
        rows = [
            {*problem.training.first[mine & part], *problem.training.second[mine & part]}
            for part in (fold.asked, fold.predicted)
        ]
        assert not rows[0] & rows[1]
    assert fold.learned.sum() == (~np.isin(problem.training_people, aside)).sum()


def test_no_more_people_are_learned_from_than_wanted():
    problem = replace(draw_problem(), features=None)
    fold = Fold.draw(problem, np.random.default_rng(0), most=7)
    assert len(np.unique(problem.training_people[fold.learned])) == 7
