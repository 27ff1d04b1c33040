import json
import math

import pytest

from app.errors import InvalidInput
from app.training.comparison_file import SkippedLines, read_comparisons

LINE = {"user_id": "u1", "prompt": "Hi?", "first": "Hello.", "second": "Yes?", "preferred": "first"}


def written(tmp_path, *rows):
    path = tmp_path / "comparisons.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_a_conversation_prompt_is_read_as_messages(tmp_path):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Bye"},
    ]
    data = read_comparisons(written(tmp_path, LINE | {"prompt": turns}))
    assert [message.content for message in data.rows[0][0]] == ["Hi", "Yes?", "Bye"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{broken", "not JSON .Expecting property name"),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        (LINE | {"first": "  "}, "'first'"),
        (LINE | {"second": ["One.", "Two."]}, "'second' must be a non-empty string"),
        (LINE | {"user_id": 7}, "'user_id'"),
        (LINE | {"preferred": "left"}, "'preferred'"),
        (LINE | {"preferred": ["first"]}, "'preferred'"),
        (LINE | {"prompt": []}, "'prompt'"),
        (LINE | {"prompt": [{"role": "user"}]}, "'content'"),
        (LINE | {"prompt": [{"role": "user", "content": 5}]}, "text as content"),
        (LINE | {"prompt": [{"role": "judge", "content": "Hi"}]}, "a role of"),
        (LINE | {"about": 5}, "'about'"),
        (LINE | {"first": "half \ud83d"}, "unpaired surrogate"),
        (LINE | {"at": "yesterday"}, "RFC 3339"),
        (LINE | {"at": "2026-01-31"}, "RFC 3339"),
        (LINE | {"at": "2026-01-31T12:00:00"}, "RFC 3339"),
        (LINE | {"at": "2026-02-31T12:00:00Z"}, "no time"),
        (LINE | {"at": 5}, "RFC 3339"),
    ],
)
def test_a_malformed_line_is_named_with_its_fault(tmp_path, row, fault):
    with pytest.raises(InvalidInput, match=rf"line 2: .*{fault}"):
        read_comparisons(written(tmp_path, LINE, row))


def test_skipped_lines_are_counted_and_the_others_kept(tmp_path):
    skipped = SkippedLines(most=2)
    path = written(tmp_path, LINE, "{broken", "{broken", "{broken", LINE)
    assert len(read_comparisons(path, skip_invalid=True, skipped=skipped)) == 2
    assert skipped.count == 3
    assert [fault.split(":")[0][-6:] for fault in skipped.faults] == ["line 2", "line 3"]


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b'\n{"user_id": "\xe9"}\n')
    with pytest.raises(InvalidInput, match=r"line 2: not UTF-8 \(byte 0xe9 at position 13"):
        read_comparisons(path)


def test_byte_order_mark_carriage_returns_and_empty_lines_do_not_matter(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LINE).encode() + b"\r\n\r\n" + json.dumps(LINE).encode())
    data = read_comparisons(path)
    assert (len(data), data.rows[0][1]) == (2, "Hello.")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"none\.jsonl cannot be read"):
        read_comparisons(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("at", "seconds"),
    [("1970-01-01T00:01:00Z", 60.0), ("1970-01-01t01:00:00.5+01:00", 0.5), ("1970-01-01 00:00:00-00:00", 0.0)],
)
def test_times_are_seconds_since_1970(tmp_path, at, seconds):
    assert read_comparisons(written(tmp_path, LINE | {"at": at})).at.tolist() == [seconds]


def test_a_comparison_without_time_has_none(tmp_path):
    assert math.isnan(read_comparisons(written(tmp_path, LINE | {"at": None})).at[0])


def test_a_blank_text_about_a_person_says_nothing(tmp_path):
    rows = [LINE | {"about": "I like tea."}, LINE | {"about": "  "}, LINE | {"about": None}]
    assert read_comparisons(written(tmp_path, *rows)).about == ["I like tea."]
