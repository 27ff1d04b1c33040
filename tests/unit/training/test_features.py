import numpy as np
import pytest

from app.entities import Message
from app.errors import ArtifactError
from app.rewards.trunk import proceed
from app.training.features import FeatureCache, compute_features

ROWS = [((Message("user", f"Question {number % 3}?"),), f"Answer {number}.") for number in range(10)]


class CountingTrunk:
    """Features that can be told apart, and a count of the rows they were computed for."""

    context, hidden = 100, 3

    def __init__(self, fingerprint="a", pooling="response_mean", dies_after=None):
        self.fingerprint, self.pooling = fingerprint, pooling
        self.computed = 0
        self.dies_after = dies_after

    def token_counts(self, rows):
        return np.array([len(text) for _, text in rows])

    def features(self, rows, *, check=proceed):
        if self.dies_after is not None and self.computed + len(rows) > self.dies_after:
            raise KeyboardInterrupt
        self.computed += len(rows)
        values = [
            [len(prompt[0].content), ord(prompt[0].content[9]), int(text.strip("?Answer ."))] for prompt, text in rows
        ]
        return np.array(values, np.float32).reshape(-1, 3)


@pytest.fixture
def trunk():
    return CountingTrunk()


def test_cached_features_are_those_of_the_trunk(tmp_path, trunk):
    expected = trunk.features(ROWS)
    for _ in range(2):
        np.testing.assert_array_equal(FeatureCache(tmp_path, trunk).features(ROWS), expected)


def test_nothing_is_computed_twice(tmp_path, trunk):
    FeatureCache(tmp_path, trunk).features(ROWS)
    FeatureCache(tmp_path, trunk).features(ROWS[::-1])
    assert trunk.computed == len(ROWS)


def test_only_missing_rows_are_computed(tmp_path, trunk):
    FeatureCache(tmp_path, trunk).features(ROWS[:4])
    features = FeatureCache(tmp_path, trunk).features(ROWS)
    assert trunk.computed == len(ROWS)
    np.testing.assert_array_equal(features[:, 2], range(10))


def test_a_row_that_occurs_twice_is_computed_once(tmp_path, trunk):
    features = FeatureCache(tmp_path, trunk).features([ROWS[0], ROWS[1], ROWS[0]])
    assert trunk.computed == 2
    np.testing.assert_array_equal(features[0], features[2])


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path, CountingTrunk(dies_after=7), shard_rows=3).features(ROWS)
    again = CountingTrunk()
    np.testing.assert_array_equal(FeatureCache(tmp_path, again, shard_rows=3).features(ROWS)[:, 2], range(10))
    assert again.computed == 4


def test_an_unfinished_file_is_not_read(tmp_path, trunk):
    FeatureCache(tmp_path, trunk).features(ROWS)
    (path,) = tmp_path.glob("*/*.features")
    path.rename(path.with_suffix(".1.unfinished"))
    FeatureCache(tmp_path, trunk).features(ROWS)
    assert trunk.computed == 2 * len(ROWS)


@pytest.mark.parametrize("other", [{"fingerprint": "b"}, {"pooling": "last_token"}])
def test_another_trunk_or_pooling_finds_nothing(tmp_path, trunk, other):
    FeatureCache(tmp_path, trunk).features(ROWS)
    changed = CountingTrunk(**other)
    FeatureCache(tmp_path, changed).features(ROWS)
    assert changed.computed == len(ROWS)


def test_where_the_prompt_ends_and_the_response_begins_matters(tmp_path, trunk):
    rows = [((Message("user", "Question 1?"),), "Answer 1."), ((Message("user", "Question 1"),), "?Answer 1.")]
    FeatureCache(tmp_path, trunk).features(rows)
    assert trunk.computed == 2


def test_a_file_that_is_broken_is_named(tmp_path, trunk):
    FeatureCache(tmp_path, trunk).features(ROWS)
    (path,) = tmp_path.glob("*/*.features")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArtifactError, match="delete it"):
        FeatureCache(tmp_path, trunk).features(ROWS)


@pytest.mark.parametrize("cached", [True, False])
def test_progress_ends_with_all_rows_done(tmp_path, trunk, cached):
    seen = []
    compute_features(trunk, ROWS, cache=tmp_path if cached else None, progress=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (10, 10)


def test_without_a_cache_features_are_the_same(tmp_path, trunk):
    np.testing.assert_array_equal(compute_features(trunk, ROWS), compute_features(trunk, ROWS, cache=tmp_path))


def test_no_rows_give_no_features(tmp_path, trunk):
    assert compute_features(trunk, [], cache=tmp_path).shape == (0, 3)
