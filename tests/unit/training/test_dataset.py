import numpy as np

from app.entities import Message
from app.training.dataset import ComparisonData, RawComparison

PROMPT = (Message("user", "Hi?"),)
ONE = RawComparison("u1", PROMPT, "Hello.", "Yes?", "first")


def other(**changes):
    return RawComparison(**{**vars(ONE), **changes})


def test_equal_texts_share_one_row():
    data = ComparisonData.of([ONE, other(user_id="u2", first="Yes?", second="Hello.")])
    assert len(data.rows) == 2
    assert data.names == ["u1", "u2"]


def test_the_same_text_to_another_prompt_is_another_row():
    data = ComparisonData.of([ONE, other(prompt=(Message("user", "Bye?"),))])
    assert len(data.rows) == 4


def test_the_preferred_side_leaves_no_trace_in_the_rows():
    data = ComparisonData.of([ONE])
    turned = ComparisonData.of([other(first=ONE.second, second=ONE.first, preferred="second")])
    assert set(data.rows) == set(turned.rows)
    assert data.rows[data.first[0]] == turned.rows[turned.second[0]]


def test_labels_follow_the_choice():
    data = ComparisonData.of([other(preferred=choice) for choice in ("first", "second", "tie")])
    assert data.labels.tolist() == [1.0, 0.0, 0.5]


def test_repeated_and_contradictory_comparisons_are_all_kept():
    data = ComparisonData.of([ONE, ONE, other(preferred="second")])
    assert data.labels.tolist() == [1.0, 1.0, 0.0]
    assert len(data.rows) == 2


def test_comparisons_of_a_text_with_itself_are_kept_and_counted():
    data = ComparisonData.of([ONE, other(second=ONE.first)])
    assert (len(data), data.identical) == (2, 1)


def test_what_a_person_wrote_of_themselves_last_is_kept():
    data = ComparisonData.of([other(about="I am old."), other(user_id="u2"), other(about="I am young."), ONE])
    assert data.about == ["I am young.", None]


def test_times_are_kept_and_missing_ones_are_not_numbers():
    np.testing.assert_array_equal(ComparisonData.of([other(at=5.0), ONE]).at, [5.0, np.nan])


def test_comparisons_are_looked_at_one_at_a_time():
    source = iter([ONE, ONE])
    assert len(ComparisonData.of(source)) == 2
    assert next(source, None) is None


def test_no_comparisons_give_empty_arrays():
    data = ComparisonData.of([])
    assert len(data) == 0
    assert data.first.dtype == np.int64


def test_comparisons_of_dropped_texts_leave_with_their_people():
    data = ComparisonData.of([ONE, other(user_id="u2", second="Long.", about="I."), other(preferred="tie", at=3.0)])
    kept = data.only(np.array([text != "Long." for _, text in data.rows]))
    assert (kept.names, kept.about, kept.labels.tolist()) == (["u1"], [None], [1.0, 0.5])
    assert kept.rows == [(PROMPT, "Hello."), (PROMPT, "Yes?")]
    np.testing.assert_array_equal(kept.at, [np.nan, 3.0])


def test_taking_comparisons_keeps_their_texts_and_people():
    many = [other(user_id=f"u{i % 3}", first=f"a{i % 5}", second=f"b{i % 4}") for i in range(30)]
    data = ComparisonData.of(many)
    kept = np.arange(30) % 7 == 3
    taken = data.take(kept)
    found = [
        (taken.names[person], taken.rows[first][1], taken.rows[second][1])
        for person, first, second in zip(taken.people, taken.first, taken.second, strict=True)
    ]
    assert found == [(one.user_id, one.first, one.second) for one, is_kept in zip(many, kept, strict=True) if is_kept]


def test_taking_nothing_leaves_nothing():
    data = ComparisonData.of([ONE]).take(np.array([False]))
    assert (len(data), data.rows, data.names) == (0, [], [])
