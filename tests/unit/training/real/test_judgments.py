import gzip

import pytest

from app.entities import Message
from app.errors import InvalidInput
from app.training.evaluation.real import build_problem
from app.training.evaluation.real.judgments import read_mt_bench, read_ukp
from tests.unit.training.real.conftest import write_lines


def test_a_second_answer_is_read_after_the_first_exchange(data):
    text = read_mt_bench(data).texts[1]
    assert text.conversation == (
        Message("user", "first 0?"),
        Message("assistant", "ann one 0"),
        Message("user", "second 0?"),
    )


def test_what_is_counted_in_a_second_answer_is_counted_in_both(data):
    assert read_mt_bench(data).texts[1].counted == "ann one 0\n\nann two 0"


def test_an_argument_answers_its_title_and_stance(data):
    assert read_ukp(data).texts[0].conversation == (Message("user", "topic 0\nside 0"),)


def test_others_who_judged_held_out_topics_alone_leave_nothing_to_learn(own_data, plain_features):
    topic = build_problem("ukpconvarg1", own_data, 0).people[0].predicted.first[0] // 10
    path = own_data / "ukpconvarg1" / "comparisons.jsonl.gz"
    rows = [row for row in gzip.decompress(path.read_bytes()).decode().splitlines() if '"w3"' in row]
    write_lines(path, [*rows, {"user": "w4", "a": f"t{topic}s0n0", "b": f"t{topic}s0n1", "choice": "a"}])
    with pytest.raises(InvalidInput, match="0 are left whose comparisons 'ukpconvarg1'"):
        build_problem("ukpconvarg1", own_data, 0, frozenset({"w3"}))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"choice": "c"}, "'choice' is 'c'"),
        ({"a": "nothing"}, "'a' is 'nothing'"),
        ({"user": ""}, "'user' must be a non-empty string"),
    ],
)
def test_a_malformed_judgment_is_named_with_its_line(own_data, changes, fault):
    row = {"user": "w1", "a": "t0s0n0", "b": "t0s0n1", "choice": "a"}
    write_lines(own_data / "ukpconvarg1" / "comparisons.jsonl.gz", [row, {**row, **changes}])
    with pytest.raises(InvalidInput, match=f"line 2: .*{fault}"):
        read_ukp(own_data)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"turn": 3}, "turn 3 of question 0 by ann, which answers.jsonl.gz does not have"),
        ({"model_b": "dan"}, "by dan, which answers.jsonl.gz does not have"),
        ({"winner": "both"}, "'winner' is 'both'"),
    ],
)
def test_a_malformed_vote_is_named_with_its_line(own_data, changes, fault):
    row = {"judge": "j", "question_id": 0, "turn": 1, "model_a": "ann", "model_b": "bob", "winner": "tie"}
    write_lines(own_data / "mt_bench_human" / "human_votes.jsonl.gz", [{**row, **changes}])
    with pytest.raises(InvalidInput, match=f"line 1: .*{fault}"):
        read_mt_bench(own_data)
