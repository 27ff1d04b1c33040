from dataclasses import replace

import numpy as np
import pytest

from app.training.methods import TrainingData


@pytest.fixture
def data():
    return TrainingData(
        None, np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([0, 1, 2]), np.ones(3), np.arange(3.0)[:, None], 4
    )


def test_columns_of_different_lengths_are_refused(data):
    with pytest.raises(ValueError, match="columns have lengths"):
        replace(data, labels=np.ones(2))


def test_rows_that_do_not_exist_are_refused(data):
    with pytest.raises(ValueError, match="use 4 rows but there are 3"):
        replace(data, rows=3)


def test_about_features_need_a_row_a_person(data):
    with pytest.raises(ValueError, match="2 about rows for 3 people"):
        replace(data, about_features=np.ones((2, 1)))


def test_some_people_keep_their_comparisons_and_what_they_wrote(data):
    some = data.only(np.array([False, True, True]))
    assert (some.first.tolist(), some.people.tolist(), some.rows) == ([1, 2], [0, 1], 4)
    assert some.about_features.ravel().tolist() == [1.0, 2.0]
