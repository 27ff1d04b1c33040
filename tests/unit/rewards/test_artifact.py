import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.entities import Axis
from app.errors import ArtifactError, ArtifactIncompatible
from app.preferences.answers import ResponseModel
from app.preferences.certainty import CertaintyCurve
from app.preferences.gaussian import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.priors.load import load_prior
from app.preferences.priors.words import BUCKETS
from app.rewards.artifact import BasisArtifact, check_model, check_trunk, load_basis, model_sha256, save_basis
from app.rewards.files import parse_tensors, write_tensors

CONTENT: dict[str, Any] = {
    "model_name": "small",
    "heads": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32),
    "offset": np.array([0.5, -0.5], np.float32),
    "prior": GaussianPrior(Posterior(np.array([0.1, 0.2]), np.array([[2.0, 0.5], [0.5, 1.0]]))),
    "reference": np.array([[1.0, -1.0], [0.0, 2.0], [3.0, 1.0]]),
    "axes": [Axis(0, "length", "long", "short"), Axis(1, "warmth", "warm", "cool")],
    "response": ResponseModel(exponent=0.8, lapse=0.05, tie_strength=0.7),
    "certainty_curve": CertaintyCurve(np.array([0.0, 0.4, 0.9]), np.array([0.1, 0.3, 0.8])),
    "candidate_sets": np.arange(12.0).reshape(2, 3, 2),
    "provenance": {"people": 3},
}


@pytest.fixture
def model_directory(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
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
        (artifact.basis.reference, CONTENT["reference"]),
        (artifact.basis.candidate_sets, CONTENT["candidate_sets"]),
        (artifact.basis.certainty_curve.raw, CONTENT["certainty_curve"].raw),
        (artifact.basis.certainty_curve.realised, CONTENT["certainty_curve"].realised),
    ]:
        np.testing.assert_array_equal(found, written)


def test_words_and_numbers_come_back(tmp_path: Path, model_directory: Path) -> None:
    basis = _save(tmp_path / "basis", model_directory).basis
    assert (basis.model, list(basis.axes), basis.response) == ("small", CONTENT["axes"], CONTENT["response"])


GAUSSIAN = {"mean": np.array([0.1, 0.2]), "precision": np.array([[2.0, 0.5], [0.5, 1.0]])}
PRIORS: dict[str, dict[str, np.ndarray]] = {
    "gaussian": GAUSSIAN,
    "atoms": {"atoms": np.eye(3, 2), "weights": np.array([0.5, 0.3, 0.2]), "halo": 0.1 * np.eye(2)},
    "mixture": {"weights": np.array([0.4, 0.6]), "means": np.eye(2), "precisions": np.stack([np.eye(2)] * 2)},
    "simplex": {"latent_mean": np.zeros(3), "latent_precision": np.eye(3), "vertices": np.eye(3, 2)},
    "about": {
        **GAUSSIAN,
        "residual_mean": np.zeros(2),
        "residual_precision": np.eye(2),
        "slopes": np.full((BUCKETS, 2), 0.5),
        "rarity": np.ones(BUCKETS),
    },
}


@pytest.mark.parametrize("family", PRIORS)
def test_a_prior_of_any_family_comes_back(tmp_path: Path, model_directory: Path, family: str) -> None:
    written = load_prior(family, PRIORS[family])
    prior = _save(tmp_path / "basis", model_directory, prior=written).basis.prior
    assert (prior.family, set(prior.arrays())) == (family, set(written.arrays()))
    for name, array in written.arrays().items():
        np.testing.assert_array_equal(prior.arrays()[name], array)


def test_a_basis_needs_no_candidate_sets(tmp_path: Path, model_directory: Path) -> None:
    basis = _save(tmp_path / "basis", model_directory, candidate_sets=np.zeros((0, 2, 2))).basis
    assert basis.candidate_sets.shape == (0, 2, 2)


def test_the_version_is_the_same_for_the_same_content(tmp_path: Path, model_directory: Path) -> None:
    first = _save(tmp_path / "one", model_directory)
    second = _save(tmp_path / "two", model_directory, provenance={"people": 4})
    assert first.basis.version == second.basis.version


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": np.array([0.5, -0.4], np.float32)},
        {"response": ResponseModel(exponent=0.7)},
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
    _edit(tmp_path / "basis", response={"exponent": 0.5})
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
        ({"format": 1}, "format 1, this release reads 2; write the basis again"),
        ({"pooling": "last"}, "pooling"),
        ({"K": 3}, "K=3"),
        ({"hidden_size": 4}, "H=4"),
        ({"axes": []}, "numbered 0 to 1"),
        ({"response": {"exponent": -1.0}}, "exponent is -1.0"),
        ({"response": {"patience": 1.0}}, "patience"),
        ({"prior": {"family": "horoscope"}}, "horoscope"),
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


def test_a_prior_about_other_coefficients_is_refused(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="about 3 coefficients"):
        _save(tmp_path / "basis", model_directory, prior=GaussianPrior(Posterior(np.zeros(3), np.eye(3))))


def test_candidate_sets_on_other_rewards_are_refused(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="'candidate_sets' has shape"):
        _save(tmp_path / "basis", model_directory, candidate_sets=np.zeros((1, 2, 3)))


def test_arrays_of_a_prior_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "tensors", {"prior.mean": np.array([np.nan])})
    content = (tmp_path / "tensors").read_bytes()
    with pytest.raises(ArtifactError, match=r"'prior\.mean'"):
        parse_tensors(tmp_path / "tensors", content, {}, "restore it", free="prior.")


@pytest.fixture
def trunk_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "encoder"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"other weights")
    (directory / "README.md").write_text("Not part of it.")
    return directory


def test_a_trunk_travels_with_its_basis(tmp_path: Path, model_directory: Path, trunk_directory: Path) -> None:
    artifact = _save(tmp_path / "basis", model_directory, trunk=trunk_directory, pooling="mean")
    assert artifact.trunk is not None
    assert sorted(path.name for path in artifact.trunk.iterdir()) == ["config.json", "model.safetensors"]
    check_trunk(artifact)


def test_a_trunk_that_changed_is_refused(tmp_path: Path, model_directory: Path, trunk_directory: Path) -> None:
    artifact = _save(tmp_path / "basis", model_directory, trunk=trunk_directory, pooling="mean")
    (tmp_path / "basis" / "trunk" / "config.json").write_text("{ }")
    with pytest.raises(ArtifactError, match=r"The trunk in .* has SHA-256"):
        check_trunk(artifact)


def test_a_trunk_that_was_written_into_the_artifact_stays(tmp_path: Path, model_directory: Path) -> None:
    trunk = tmp_path / "basis" / "trunk"
    trunk.mkdir(parents=True)
    (trunk / "config.json").write_text("{}")
    (trunk / "model.safetensors").write_bytes(b"tuned weights")
    check_trunk(_save(tmp_path / "basis", model_directory, trunk=trunk))
    assert (trunk / "model.safetensors").read_bytes() == b"tuned weights"


def test_a_replaced_artifact_leaves_no_trunk_behind(
    tmp_path: Path, model_directory: Path, trunk_directory: Path
) -> None:
    _save(tmp_path / "basis", model_directory, trunk=trunk_directory)
    assert _save(tmp_path / "basis", model_directory).trunk is None
    assert sorted(path.name for path in (tmp_path / "basis").iterdir()) == ["basis.safetensors", "manifest.json"]


def test_the_version_changes_with_the_trunk(tmp_path: Path, model_directory: Path, trunk_directory: Path) -> None:
    first = _save(tmp_path / "one", model_directory, trunk=trunk_directory).basis.version
    assert first != _save(tmp_path / "two", model_directory).basis.version


def test_the_model_that_generates_pools_no_other_way(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="last_token"):
        _save(tmp_path / "basis", model_directory, pooling="last_token")


def test_a_directory_that_is_no_checkpoint_is_no_trunk(tmp_path: Path, model_directory: Path) -> None:
    with pytest.raises(ArtifactError, match=r"No config\.json"):
        _save(tmp_path / "basis", model_directory, trunk=model_directory)


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


def test_a_basis_is_refused_for_another_tokenizer(tmp_path: Path, model_directory: Path) -> None:
    artifact = _save(tmp_path / "basis", model_directory)
    (model_directory / "tokenizer.json").write_text('{"version": "other"}')
    with pytest.raises(ArtifactIncompatible, match="with tokenizer"):
        check_model(artifact.manifest, model_directory)


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_basis_is_refused_for_another_chat_template(tmp_path: Path, model_directory: Path, place: str) -> None:
    artifact = _save(tmp_path / "basis", model_directory)
    (model_directory / place).write_text(json.dumps({"chat_template": "{{ messages }}"}))
    with pytest.raises(ArtifactIncompatible, match="with tokenizer"):
        check_model(artifact.manifest, model_directory)


def test_settings_of_the_tokenizer_other_than_the_template_do_not_matter(tmp_path: Path, model_directory: Path) -> None:
    artifact = _save(tmp_path / "basis", model_directory)
    (model_directory / "tokenizer_config.json").write_text(json.dumps({"padding_side": "left"}))
    check_model(artifact.manifest, model_directory)


def test_a_basis_that_recorded_no_tokenizer_is_accepted(tmp_path: Path, model_directory: Path) -> None:
    manifest = _save(tmp_path / "basis", model_directory).manifest
    older = {**manifest, "model": {key: value for key, value in manifest["model"].items() if key != "tokenizer_sha256"}}
    (model_directory / "tokenizer.json").write_text('{"version": "other"}')
    check_model(older, model_directory)


def test_a_basis_is_refused_for_a_model_of_another_hidden_size(tmp_path: Path, model_directory: Path) -> None:
    manifest = _save(tmp_path / "basis", model_directory).manifest
    (model_directory / "config.json").write_text(json.dumps({"hidden_size": 4}))
    with pytest.raises(ArtifactIncompatible, match="hidden size 3"):
        check_model(manifest, model_directory)


def test_a_model_directory_without_a_tokenizer_is_refused(tmp_path: Path, model_directory: Path) -> None:
    (model_directory / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"No tokenizer\.json"):
        _save(tmp_path / "basis", model_directory)
