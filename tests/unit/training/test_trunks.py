from pathlib import Path

import numpy as np
import pytest

from app.entities import Message
from app.rewards.trunk_transformers import load_trunk
from app.training import trunks
from app.training.dataset import ComparisonData, RawComparison
from app.training.lora import tune_trunk
from app.training.trunks import TrunkChoice, open_trunk
from tests.fakes.tiny_trunks import write_tiny_trunk

PROMPT = (Message("user", "Hi?"),)
DATA = ComparisonData.of(RawComparison(f"u{i % 2}", PROMPT, f"Yes {i}.", "No.", "first") for i in range(8))


def no_training(trunk):
    raise AssertionError("nothing is tuned here")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_trunk(tmp_path_factory.mktemp("qwen2"), "qwen2")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_trunk(tmp_path_factory.mktemp("bert"), "bert")


def test_the_model_that_generates_is_no_trunk_of_its_own(model, tmp_path):
    opened = open_trunk(TrunkChoice(), model, tmp_path, no_training, seed=0)
    assert (opened.directory, opened.trunk.pooling) == (None, "response_mean")


def test_the_model_that_generates_needs_a_copy_where_it_pools_otherwise(model, tmp_path):
    assert open_trunk(TrunkChoice(pooling="last_token"), model, tmp_path, no_training, seed=0).directory == model


def test_another_model_must_travel_with_the_basis(model, encoder, tmp_path):
    opened = open_trunk(TrunkChoice(encoder), model, tmp_path, no_training, seed=0)
    assert (opened.directory, opened.trunk.pooling) == (encoder, "mean")


def test_a_tuned_trunk_is_written_into_the_artifact(model, encoder, tmp_path):
    opened = open_trunk(TrunkChoice(encoder, lora_rank=2), model, tmp_path, lambda trunk: DATA, seed=0)
    assert opened.directory == tmp_path / "trunk"
    assert opened.trunk.fingerprint == load_trunk(tmp_path / "trunk", "mean").fingerprint
    before, after = (load_trunk(one, "mean").features(DATA.rows) for one in (encoder, opened.directory))
    assert np.abs(before - after).max() > 0


@pytest.mark.parametrize(("seed", "times"), [(0, 1), (1, 2)], ids=["same", "other"])
def test_a_trunk_is_tuned_again_only_with_other_options(encoder, tmp_path, monkeypatch, seed, times):
    tunings = []

    def tune(*arguments, **options):
        tunings.append(options["seed"])
        return tune_trunk(*arguments, **options)

    monkeypatch.setattr(trunks, "tune_trunk", tune)
    for one in (0, seed):
        open_trunk(TrunkChoice(encoder, lora_rank=2), encoder, tmp_path, lambda trunk: DATA, seed=one)
    assert len(tunings) == times


def test_a_tuned_trunk_that_was_damaged_is_tuned_again(encoder, tmp_path):
    choice = TrunkChoice(encoder, lora_rank=2)
    first = open_trunk(choice, encoder, tmp_path, lambda trunk: DATA, seed=0).trunk.fingerprint
    (tmp_path / "trunk" / "config.json").write_text("{}")
    assert open_trunk(choice, encoder, tmp_path, lambda trunk: DATA, seed=0).trunk.fingerprint == first


def test_the_trunk_to_be_tuned_tells_which_texts_fit(model, encoder, tmp_path):
    contexts = []

    def training(trunk):
        contexts.append(trunk.context)
        return DATA

    open_trunk(TrunkChoice(encoder, lora_rank=2), model, tmp_path, training, seed=0)
    assert contexts == [128]
