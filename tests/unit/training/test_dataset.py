import json

import numpy as np
import pytest

from app.errors import InvalidInput
from app.training.dataset import ComparisonData, read_comparisons

LINE = {"user_id": "u1", "prompt": "Hi?", "first": "Hello.", "second": "Yes?", "preferred": "first"}


def written(tmp_path, *rows):
    path = tmp_path / "comparisons.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_equal_texts_share_one_row(tmp_path):
    data = read_comparisons(written(tmp_path, LINE, LINE | {"user_id": "u2", "second": "Hello.", "first": "Yes?"}))
    assert len(data.rows) == 2
    assert data.names == ["u1", "u2"]


def test_the_preferred_side_leaves_no_trace_in_the_rows(tmp_path):
    one = read_comparisons(written(tmp_path, LINE))
    turned = LINE | {"first": LINE["second"], "second": LINE["first"], "preferred": "second"}
    other = read_comparisons(written(tmp_path, turned))
    assert set(one.rows) == set(other.rows)
    assert one.rows[one.first[0]] == other.rows[other.second[0]]


def test_a_conversation_prompt_is_read_as_messages(tmp_path):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Bye"},
    ]
    data = read_comparisons(written(tmp_path, LINE | {"prompt": turns}))
    assert [message.content for message in data.rows[0][0]] == ["Hi", "Yes?", "Bye"]


def test_labels_follow_the_choice(tmp_path):
    rows = [LINE | {"preferred": choice} for choice in ("first", "second", "tie")]
    assert read_comparisons(written(tmp_path, *rows)).labels.tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{broken", "line 2"),
        ("[1, 2]", "not a JSON object"),
        (LINE | {"first": "  "}, "'first'"),
        (LINE | {"preferred": "left"}, "'preferred'"),
        (LINE | {"prompt": []}, "'prompt'"),
        (LINE | {"prompt": [{"role": "user"}]}, "'content'"),
    ],
)
def test_a_malformed_line_is_named_with_its_fault(tmp_path, row, fault):
    with pytest.raises(InvalidInput, match=fault):
        read_comparisons(written(tmp_path, LINE, row))


def test_skipped_lines_are_reported_and_the_others_kept(tmp_path):
    skipped = []
    data = read_comparisons(written(tmp_path, LINE, "{broken", LINE), skip_invalid=True, skipped=skipped)
    assert len(data) == 2
    assert "line 2" in skipped[0]


def test_no_comparisons_give_empty_arrays():
    data = ComparisonData.of([])
    assert len(data) == 0
    assert data.first.dtype == np.int64


def test_comparisons_of_dropped_texts_leave_with_their_people(tmp_path):
    data = read_comparisons(
        written(tmp_path, LINE, LINE | {"user_id": "u2", "second": "A very long text."}, LINE | {"preferred": "tie"})
    )
    kept = data.only(np.array([text != "A very long text." for _, text in data.rows]))
    assert kept.names == ["u1"]
    assert kept.labels.tolist() == [1.0, 0.5]
    assert len(kept.rows) == 2


def test_a_message_without_text_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="line 1"):
        read_comparisons(written(tmp_path, LINE | {"prompt": [{"role": "user", "content": 5}]}))
