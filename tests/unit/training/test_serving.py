import json

import numpy as np

from app.entities import Message
from app.training.serving import MOST_CANDIDATES, candidate_sets, model_name, reference_pairs


def rows_of(*sizes):
    """A prompt for each size with that many responses; features are (prompt, response)."""
    rows = [
        ((Message("user", f"{prompt}"),), f"{number}") for prompt, size in enumerate(sizes) for number in range(size)
    ]
    features = np.array([[float(prompt[0].content), float(text)] for prompt, text in rows]).reshape(-1, 2)
    return rows, features


def test_a_set_holds_responses_to_one_prompt():
    sets = candidate_sets(*rows_of(4, 4, 5, 1), np.random.default_rng(0))
    assert sets.shape == (3, 4, 2)
    assert (sets[:, :, 0] == sets[:, :1, 0]).all()


def test_sets_are_no_larger_than_is_served():
    assert candidate_sets(*rows_of(*[20] * 70), np.random.default_rng(0)).shape == (64, MOST_CANDIDATES, 2)


def test_without_prompts_of_several_responses_there_are_no_sets():
    assert candidate_sets(*rows_of(1, 1), np.random.default_rng(0)).shape == (0, 2, 2)


def test_reference_pairs_are_different_responses_to_one_prompt():
    pairs = reference_pairs(*rows_of(3, 1, 2), np.random.default_rng(0))
    assert len(pairs) == 3
    assert (pairs[:, 0] == 0).all()
    assert (pairs[:, 1] != 0).all()


def test_a_model_is_called_what_its_training_calls_it_or_as_its_directory(tmp_path):
    assert model_name(tmp_path) == tmp_path.name
    (tmp_path / "training.json").write_text(json.dumps({"name": "tiny"}))
    assert model_name(tmp_path) == "tiny"
