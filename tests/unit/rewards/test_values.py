import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.entities import FrontierPoint
from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.artifact import BasisArtifact, load_basis
from app.rewards.values import (
    ValueHeads,
    check_values,
    load_values,
    record_frontier,
    save_values,
    values_directory,
)
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model

SIZE, HIDDEN, VOCABULARY, RANK, BUCKETS = 3, 32, 262, 4, 2
POINT = FrontierPoint("best of 4", "best_of_n", 4, "none", 0.0, 4.0, 0.7)
ARRAYS = ("bounds", "weight", "offset", "errors", "action_states", "action_offset", "action_tokens")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


@pytest.fixture
def artifact(tmp_path: Path, model: Path) -> BasisArtifact:
    return write_tiny_basis(tmp_path / "basis", model, SIZE)


def content() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "bounds": np.array([1, 8]),
        "weight": rng.standard_normal((BUCKETS, SIZE, 2 * HIDDEN)).astype(np.float32),
        "offset": rng.standard_normal((BUCKETS, SIZE)).astype(np.float32),
        "errors": np.stack([np.eye(SIZE), 0.5 * np.eye(SIZE)]),
        "action_states": rng.standard_normal((SIZE, RANK, HIDDEN)).astype(np.float32),
        "action_offset": rng.standard_normal((SIZE, RANK)).astype(np.float32),
        "action_tokens": rng.standard_normal((VOCABULARY, RANK)).astype(np.float32),
        "scale": 2.5,
        "max_tokens": 16,
        "provenance": {"prompts": 3},
    }


@pytest.fixture
def values(tmp_path: Path, artifact: BasisArtifact, model: Path) -> ValueHeads:
    return save_values(tmp_path / "basis/values", artifact=artifact, model_directory=model, **content())


def edit(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_arrays_come_back_exactly(tmp_path: Path, values: ValueHeads) -> None:
    found = load_values(tmp_path / "basis/values")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), content()[name])


def test_a_basis_tells_where_its_value_heads_are(tmp_path: Path, values: ValueHeads) -> None:
    assert values_directory(tmp_path / "basis") == tmp_path / "basis/values"


@pytest.mark.usefixtures("artifact")
def test_a_basis_without_value_heads_says_so(tmp_path: Path) -> None:
    assert values_directory(tmp_path / "basis") is None


def test_they_are_accepted_for_the_basis_and_model_they_were_made_for(
    values: ValueHeads, artifact: BasisArtifact, model: Path
) -> None:
    check_values(values, artifact, model)


def test_changed_tensors_are_refused(tmp_path: Path, values: ValueHeads) -> None:
    path = tmp_path / "basis/values/values.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactError, match="records"):
        load_values(tmp_path / "basis/values")


@pytest.mark.parametrize("change", [{"scale": 99.0}, {"basis_version": "other"}, {"max_tokens": 7}])
def test_a_changed_manifest_is_refused(tmp_path: Path, values: ValueHeads, change: dict[str, object]) -> None:
    edit(tmp_path / "basis/values", **change)
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        load_values(tmp_path / "basis/values")


@pytest.mark.parametrize(
    "change", [{"K": 4}, {"hidden_size": 16}, {"rank": 5}, {"vocabulary": 9}, {"scale": -1.0}, {"frontier": [{}]}]
)
def test_a_manifest_that_contradicts_the_tensors_is_refused(
    tmp_path: Path, values: ValueHeads, change: dict[str, object]
) -> None:
    edit(tmp_path / "basis/values", **change)
    with pytest.raises(ArtifactIncompatible, match="malformed"):
        load_values(tmp_path / "basis/values")


def test_another_format_is_refused(tmp_path: Path, values: ValueHeads) -> None:
    edit(tmp_path / "basis/values", format=99)
    with pytest.raises(ArtifactIncompatible, match="format 99"):
        load_values(tmp_path / "basis/values")


@pytest.mark.parametrize("bounds", [[0, 8], [1, 1], [2, 8]])
def test_buckets_must_rise_from_one_token(
    tmp_path: Path, artifact: BasisArtifact, model: Path, bounds: list[int]
) -> None:
    changed = content() | {"bounds": np.array(bounds)}
    with pytest.raises(ArtifactIncompatible, match="rise from 1"):
        save_values(tmp_path / "values", artifact=artifact, model_directory=model, **changed)


def test_they_are_refused_for_another_basis(
    tmp_path: Path, values: ValueHeads, artifact: BasisArtifact, model: Path
) -> None:
    other = write_tiny_basis(tmp_path / "other", model, SIZE, seed=6)
    with pytest.raises(ArtifactIncompatible, match="made for basis"):
        check_values(values, other, model)


def test_they_are_refused_for_other_weights(values: ValueHeads, artifact: BasisArtifact, model: Path) -> None:
    record = artifact.manifest["model"] | {"sha256": "0" * 64}
    with pytest.raises(ArtifactIncompatible, match="made for model weights"):
        check_values(values, replace(artifact, manifest={**artifact.manifest, "model": record}), model)


def test_they_are_refused_for_another_number_of_basis_rewards(
    values: ValueHeads, artifact: BasisArtifact, model: Path
) -> None:
    with pytest.raises(ArtifactIncompatible, match="made for K 3"):
        check_values(values, replace(artifact, manifest={**artifact.manifest, "K": 4}), model)


def test_they_are_refused_for_another_tokenizer(values: ValueHeads, artifact: BasisArtifact, model: Path) -> None:
    path = model / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ArtifactIncompatible, match="made for tokenizer"):
        check_values(values, artifact, model)


def test_they_are_refused_for_another_vocabulary(values: ValueHeads, artifact: BasisArtifact, model: Path) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 300}))
    with pytest.raises(ArtifactIncompatible, match="made for vocabulary 262"):
        check_values(values, artifact, model)


def test_a_recorded_frontier_comes_back(tmp_path: Path, values: ValueHeads) -> None:
    record_frontier(tmp_path / "basis/values", [POINT])
    assert load_values(tmp_path / "basis/values").frontier == (POINT,)


def test_recording_a_frontier_changes_neither_version(tmp_path: Path, values: ValueHeads) -> None:
    before = load_basis(tmp_path / "basis").basis.version
    found = record_frontier(tmp_path / "basis/values", [POINT])
    assert found.manifest["version"] == values.manifest["version"]
    assert load_basis(tmp_path / "basis").basis.version == before


def test_value_heads_outlive_the_same_basis_written_again(tmp_path: Path, values: ValueHeads, model: Path) -> None:
    write_tiny_basis(tmp_path / "basis", model, SIZE)
    assert values_directory(tmp_path / "basis") is not None


def test_value_heads_go_with_the_basis_that_is_replaced(tmp_path: Path, values: ValueHeads, model: Path) -> None:
    write_tiny_basis(tmp_path / "basis", model, SIZE, seed=6)
    assert values_directory(tmp_path / "basis") is None
