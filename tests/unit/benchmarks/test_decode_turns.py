"""How the decoding benchmark takes turns."""

import json

import pytest

from app.rewards.artifact import model_sha256
from app.rewards.language import load_language_model
from benchmarks.decode.endless import endless_checkpoint
from benchmarks.decode.turns import StoppedEarly, Taken, faster, figures, take_turns
from tests.fakes.tiny_model import write_tiny_model


def side(*turns):
    left = iter(turns)
    return lambda: next(left)


def test_the_first_round_warms_up_and_does_not_count():
    taken = take_turns({"ours": side(Taken(9, 9, 5), Taken(1, 2, 5)), "theirs": side(*[Taken(3, 3, 5)] * 2)}, 1)
    assert taken["ours"] == [Taken(1, 2, 5)]


def test_a_side_that_stops_early_ends_the_benchmark():
    sides = {"ours": side(*[Taken(1, 1, 5)] * 2), "theirs": side(Taken(1, 1, 5), Taken(1, 1, 4))}
    with pytest.raises(StoppedEarly, match="'theirs': 4"):
        take_turns(sides, 1)


def test_ratios_compare_turns_of_the_same_round():
    taken = {"ours": [Taken(1, 1, 5), Taken(2, 1, 5), Taken(1, 1, 5)], "theirs": [Taken(3, 1, 5)] * 3}
    assert faster(taken, "ours", "theirs") == {"median": 3.0, "low": 1.5, "high": 3.0}


def test_ratios_use_the_clock_asked_for():
    taken = {"ours": [Taken(1, 4, 5)], "theirs": [Taken(2, 4, 5)]}
    assert faster(taken, "ours", "theirs", "wall")["median"] == 1.0


def test_figures_are_throughputs_in_processor_seconds():
    assert figures({"ours": [Taken(2, 4, 10)]})["ours"]["tokens_per_cpu_second"]["median"] == 5.0


def test_the_endless_copy_has_the_same_weights_and_another_end(tmp_path):
    directory = write_tiny_model(tmp_path / "model")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    ends = load_language_model(directory).tokenizer.end_ids
    with endless_checkpoint(directory) as copy:
        assert model_sha256(copy) == model_sha256(directory)
        assert not set(load_language_model(copy).tokenizer.end_ids) & set(ends)
    assert load_language_model(directory).tokenizer.end_ids == ends
