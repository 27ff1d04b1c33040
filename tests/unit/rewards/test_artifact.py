import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.entities import Axis
from app.errors import ArtifactError, ArtifactIncompatible
from app.preferences.posterior import Posterior
from app.rewards.artifact import BasisArtifact, check_model, load_basis, model_sha256, save_basis

CONTENT: dict[str, Any] = {
    "model_name": "small",
    "heads": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32),
    "offset": np.array([0.5, -0.5], np.float32),
    "prior": Posterior(np.array([0.1, 0.2]), np.array([[2.0, 0.5], [0.5, 1.0]])),
    "reference": np.array([[1.0, -1.0], [0.0, 2.0], [3.0, 1.0]]),
    "axes": [Axis(0, "length", "long", "short"), Axis(1, "warmth", "warm", "cool")],
    "exponent": 0.8,
    "certainty_scale": 1.2,
    "provenance": {"people": 3},
}


@pytest.fixture
def model_directory(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "model"


def _save(directory: Path, model_directory: Path, **changes: Any) -> BasisArtifact:
    return save_basis(directory, **(CONTENT | {"model_directory": model_directory} | changes))


def _edit(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_arrays_come_back_exactly(tmp_path: Path, model_directory: Path) -> None:
    _save(tmp_path / "basis", model_directory)
    artifact = load_basis(tmp_path / "basis")
    for found, written in [
        (artifact.heads, CONTENT["heads"]),
        (artifact.offset, CONTENT["offset"]),
        (artifact.basis.prior.mean, CONTENT["prior"].mean),
        (artifact.basis.prior.precision, CONTENT["prior"].precision),
        (artifact.basis.reference, CONTENT["reference"]),
    ]:
        np.testing.assert_array_equal(found, written)


def test_words_and_numbers_come_back(tmp_path: Path, model_directory: Path) -> None:
    basis = _save(tmp_path / "basis", model_directory).basis
    found = basis.model, list(basis.axes), basis.exponent, basis.certainty_scale
    assert found == ("small", CONTENT["axes"], 0.8, 1.2)


def test_the_version_is_the_same_for_the_same_content(tmp_path: Path, model_directory: Path) -> None:
    first = _save(tmp_path / "one", model_directory)
    second = _save(tmp_path / "two", model_directory, provenance={"people": 4})
    assert first.basis.version == second.basis.version


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": np.array([0.5, -0.4], np.float32)},
        {"exponent": 0.7},
        {"axes": [CONTENT["axes"][0], Axis(1, "x", "y", "z")]},
    ],
    ids=["tensor", "number", "label"],
)
def test_the_version_changes_with_the_content(tmp_path: Path, model_directory: Path, changes: dict[str, Any]) -> None:
    assert (
        _save(tmp_path / "one", model_directory).basis.version
        != _save(tmp_path / "two", model_directory, **changes).basis.version
    )


def test_a_changed_tensor_file_is_refused(tmp_path: Path, model_directory: Path) -> None:
    _save(tmp_path / "basis", model_directory)
    path = tmp_path / "basis" / "basis.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="SHA-256"):
        load_basis(tmp_path / "basis")


def test_a_changed_manifest_is_refused(tmp_path: Path, model_directory: Path) -> None:
    _save(tmp_path / "basis", model_directory)
    _edit(tmp_path / "basis", certainty_scale=2.0)
    with pytest.raises(ArtifactError, match="changed after it was written"):
        load_basis(tmp_path / "basis")


@pytest.mark.parametrize("name", ["manifest.json", "basis.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, model_directory: Path, name: str) -> None:
    _save(tmp_path / "basis", model_directory)
    (tmp_path / "basis" / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} cannot be read"):
        load_basis(tmp_path / "basis")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": 2}, "format 2"),
        ({"pooling": "last"}, "pooling"),
        ({"K": 3}, "K=3"),
        ({"hidden_size": 4}, "H=4"),
        ({"axes": []}, "numbered 0 to 1"),
        ({"exponent": 0.0}, "exponent 0.0"),
        ({"model": None}, "malformed"),
    ],
)
def test_a_manifest_that_this_release_cannot_use_is_refused(
    tmp_path: Path, model_directory: Path, changes: dict[str, Any], named: str
) -> None:
    _save(tmp_path / "basis", model_directory)
    _edit(tmp_path / "basis", **changes)
    with pytest.raises(ArtifactIncompatible, match=named):
        load_basis(tmp_path / "basis")


@pytest.mark.parametrize("text", ["not json", "[]"])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="JSON"):
        load_basis(tmp_path)


def test_entries_that_are_not_finite_are_refused(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(ArtifactError, match="'offset'"):
        _save(tmp_path / "basis", model_directory, offset=np.array([np.nan, 0.0], np.float32))


def test_heads_and_offset_that_disagree_are_refused(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="'offset' has shape"):
        _save(tmp_path / "basis", model_directory, offset=np.zeros(3, np.float32))


def test_a_basis_is_accepted_for_the_model_it_was_made_for(tmp_path: Path, model_directory: Path) -> None:
    manifest = _save(tmp_path / "basis", model_directory).manifest
    check_model(manifest, model_directory)
    assert manifest["model"]["sha256"] == model_sha256(model_directory)


def test_a_basis_is_refused_for_other_weights(tmp_path: Path, model_directory: Path) -> None:
    artifact = _save(tmp_path / "basis", model_directory)
    (model_directory / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ArtifactIncompatible, match="was made for model 'small'"):
        check_model(artifact.manifest, model_directory)


def test_a_change_in_any_shard_of_a_model_is_noticed(tmp_path: Path, model_directory: Path) -> None:
    (model_directory / "model.safetensors").unlink()
    for number in (1, 2):
        (model_directory / f"model-0000{number}-of-00002.safetensors").write_bytes(b"shard")
    artifact = _save(tmp_path / "basis", model_directory)
    (model_directory / "model-00002-of-00002.safetensors").write_bytes(b"other")
    with pytest.raises(ArtifactIncompatible):
        check_model(artifact.manifest, model_directory)


def test_a_model_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"No model\.safetensors"):
        _save(tmp_path / "basis", tmp_path)
