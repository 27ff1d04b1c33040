import json
from pathlib import Path

import numpy as np
import pytest

from app.entities import Axis, Basis
from app.errors import ArtifactError, ArtifactIncompatible
from app.preferences.answers import ResponseModel
from app.preferences.certainty import CertaintyCurve
from app.preferences.gaussian import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.rewards.pool import PoolPrompt, load_pool, read_prompts, save_pool

PROMPTS = [
    PoolPrompt("tea", "food", "How do I make tea?", ("Boil water.", "Use leaves.", "Ask a friend.")),
    PoolPrompt("rain", "weather", "Will it rain?", ("Perhaps.", "Take an umbrella.")),
]
REWARDS = np.array([[1.0, 0.0], [2.0, 5.0], [4.0, 1.0], [0.0, 0.0], [3.0, -1.0]])


def _basis(version: str = "v1", size: int = 2) -> Basis:
    return Basis(
        version=version,
        model="small",
        axes=tuple(Axis(index, "", "", "") for index in range(size)),
        prior=GaussianPrior(Posterior(np.zeros(size), np.eye(size))),
        response=ResponseModel(),
        reference=np.zeros((1, size)),
        certainty_curve=CertaintyCurve.identity(),
        candidate_sets=np.zeros((0, 2, size)),
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_pool(tmp_path, PROMPTS, REWARDS, "v1")
    return tmp_path


def test_pairs_are_all_pairs_within_a_prompt_in_order(directory: Path) -> None:
    pairs = load_pool(directory, _basis()).pairs
    assert [(one.number, one.prompt_id, one.first, one.second) for one in pairs] == [
        (0, "tea", "Boil water.", "Use leaves."),
        (1, "tea", "Boil water.", "Ask a friend."),
        (2, "tea", "Use leaves.", "Ask a friend."),
        (3, "rain", "Perhaps.", "Take an umbrella."),
    ]


def test_pairs_know_their_topic_and_prompt(directory: Path) -> None:
    last = load_pool(directory, _basis()).pairs[-1]
    assert (last.topic, last.prompt) == ("weather", "Will it rain?")


def test_differences_are_first_minus_second(directory: Path) -> None:
    differences = load_pool(directory, _basis()).differences
    np.testing.assert_array_equal(differences, [[-1.0, -5.0], [-3.0, -1.0], [-2.0, 4.0], [-3.0, 1.0]])


def test_a_pool_scored_on_another_basis_is_refused(directory: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="scored on basis v1, but v2 is active"):
        load_pool(directory, _basis("v2"))


def test_a_pool_of_another_size_is_refused(directory: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match=r"shape \(5, 2\)"):
        load_pool(directory, _basis(size=3))


@pytest.mark.parametrize("name", ["pool.json", "pool.safetensors"])
def test_a_file_changed_after_scoring_is_refused(directory: Path, name: str) -> None:
    (directory / name).write_bytes((directory / name).read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="SHA-256"):
        load_pool(directory, _basis())


@pytest.mark.parametrize("name", ["pool.json", "pool.safetensors", "manifest.json"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} cannot be read"):
        load_pool(directory, _basis())


def test_prompts_are_read_as_they_were_written(directory: Path) -> None:
    assert list(read_prompts(directory / "pool.json")) == PROMPTS


def test_rewards_of_another_number_of_responses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactIncompatible):
        save_pool(tmp_path, PROMPTS, REWARDS[:-1], "v1")


def test_rewards_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not all finite"):
        save_pool(tmp_path, PROMPTS, np.full((5, 2), np.nan), "v1")


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        [{"id": "a", "topic": "t", "prompt": "p", "responses": ["x"]}],
        [{"id": "a", "topic": "t", "prompt": "p", "responses": ["x", "x"]}],
        [{"id": "a", "topic": "t", "prompt": " ", "responses": ["x", "y"]}],
        [{"id": "a", "topic": "t", "prompt": "p", "responses": "xy"}],
        [{"id": "a", "topic": "t", "responses": ["x", "y"]}],
        [{"id": 7, "topic": "t", "prompt": "p", "responses": ["x", "y"]}],
        [{"id": "a", "topic": "t", "prompt": "p", "responses": ["x", "y"]}] * 2,
    ],
    ids=["none", "one response", "same responses", "blank", "text", "no prompt", "number as id", "id twice"],
)
def test_a_malformed_pool_is_refused(tmp_path: Path, prompts: list[object]) -> None:
    (tmp_path / "pool.json").write_text(json.dumps({"prompts": prompts}))
    with pytest.raises(ArtifactError, match="correct the file"):
        read_prompts(tmp_path / "pool.json")
