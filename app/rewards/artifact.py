"""The basis artifact: K linear reward heads on a frozen trunk, with what is known of people's coefficients on them.

A directory of ``manifest.json``, ``basis.safetensors`` and, where another model than the one that generates computes
the features, its checkpoint in ``trunk/``; everything is read with its hash verified. Needs numpy and safetensors
only, so that a machine without torch can serve the API. Does not run the model.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from app.entities import Axis, Basis
from app.errors import ArtifactError, ArtifactIncompatible
from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior
from app.preferences.certainty import CertaintyCurve
from app.preferences.priors.load import load_prior
from app.rewards.checkpoint import checkpoint_sha256, copy_checkpoint, tokenizer_sha256
from app.rewards.files import (
    MANIFEST,
    parse_tensors,
    read_checked,
    read_manifest,
    sha256_of,
    sha256_of_file,
    write_manifest,
    write_tensors,
)
from app.rewards.trunk import POOLINGS, RESPONSE_MEAN

FORMAT = 2
TENSORS = "basis.safetensors"
TRUNK = "trunk"
VALUES = "values"
_PRIOR = "prior."
_REMEDY = "write the basis again with 'attune basis fit' or restore it from its source"
_EXPECTED: dict[str, tuple[type[np.generic], int]] = {
    "heads": (np.float32, 2),
    "offset": (np.float32, 1),
    "reference": (np.float64, 2),
    "candidate_sets": (np.float64, 3),
    "certainty_raw": (np.float64, 1),
    "certainty_realised": (np.float64, 1),
}


@dataclass(frozen=True)
class BasisArtifact:
    """A basis with the heads that compute it.

    ``basis_rewards(text) = heads @ features(text) + offset``, where features (hidden,) are the trunk's last hidden
    states after its final norm, pooled as ``pooling`` says. The trunk is the model that generates, with the mean over
    the response's tokens (the prompt's tokens and the end mark do not count), unless ``trunk`` names the directory of
    another checkpoint. ``manifest`` is what the file says, ``provenance`` included.
    """

    basis: Basis
    heads: Float32[np.ndarray, "basis hidden"]
    offset: Float32[np.ndarray, " basis"]
    manifest: Mapping[str, Any]
    trunk: Path | None = None

    @property
    def pooling(self) -> str:
        """How the trunk's states become features, one of ``trunk.POOLINGS``."""
        return str(self.manifest["pooling"])


def load_basis(directory: Path) -> BasisArtifact:
    """Read and verify the basis artifact in ``directory``; a trunk's weights are verified by ``check_trunk``.

    Raises:
        ArtifactError: If a file is missing, has changed since it was written, or holds values that are not finite.
        ArtifactIncompatible: If the format, the pooling, the prior or a size is not one that this release can use.
    """
    directory = Path(directory)
    manifest = read_manifest(directory, FORMAT, _REMEDY)
    content = read_checked(directory, TENSORS, manifest, _REMEDY)
    tensors = parse_tensors(directory / TENSORS, content, _EXPECTED, _REMEDY, free=_PRIOR)
    try:
        artifact = _assemble(directory, manifest, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactIncompatible(f"The basis in {directory} is malformed ({error!r}); {_REMEDY}.") from error
    if manifest["version"] != _version(manifest):
        raise ArtifactError(f"The manifest in {directory} was changed after it was written; {_REMEDY}.")
    return artifact


def save_basis(
    directory: Path,
    *,
    model_name: str,
    model_directory: Path,
    heads: Float32[np.ndarray, "basis hidden"],
    offset: Float32[np.ndarray, " basis"],
    prior: Prior,
    response: ResponseModel,
    certainty_curve: CertaintyCurve,
    reference: Float64[np.ndarray, "pairs basis"],
    candidate_sets: Float64[np.ndarray, "sets candidates basis"],
    axes: Sequence[Axis],
    provenance: Mapping[str, object],
    pooling: str = RESPONSE_MEAN,
    trunk: Path | None = None,
) -> BasisArtifact:
    """Write a basis artifact and return it as ``load_basis`` reads it back.

    Args:
        directory: Created if needed; an artifact in it is replaced, with its trunk and value heads of another basis.
        model_name: Name of the language model, as ``/v1/models`` lists it.
        model_directory: Its checkpoint; the basis is refused for any other weights.
        heads: Reward directions in the hidden space.
        offset: Added to the pooled rewards.
        prior: What people have in common, of any family, in log-odds per unit of basis reward.
        response: How answers follow from margins.
        certainty_curve: From the certainty that the belief claims to the one realised.
        reference: Basis reward differences between responses as served, for ``certainty``.
        candidate_sets: Basis rewards of the responses among which one is served, for the stopping rule; may be empty.
        axes: Words for each basis reward, in order.
        provenance: Anything worth remembering; it does not enter the version.
        pooling: How the trunk's states become features.
        trunk: Checkpoint that computes the features, copied into the artifact; None for the language model itself.

    Raises:
        ArtifactError: If the arrays are not finite or a checkpoint is missing.
        ArtifactIncompatible: If the sizes contradict each other, or the model itself cannot pool as asked.
    """
    tensors = _tensors(heads, offset, prior, certainty_curve, reference, candidate_sets)
    described = {
        "model": {
            "name": model_name,
            "sha256": model_sha256(model_directory),
            "tokenizer_sha256": tokenizer_sha256(model_directory),
        },
        "pooling": pooling,
        "axes": [asdict(axis) for axis in axes],
        "prior": {"family": prior.family},
        "response": asdict(response),
        "provenance": dict(provenance),
    }
    _write(Path(directory), tensors, described, trunk)
    return load_basis(directory)


def model_sha256(model_directory: Path) -> str:
    """Hash that identifies a checkpoint's weights: of ``model.safetensors``, or over its shards in name order.

    Raises:
        ArtifactError: If the directory holds no safetensors weights.
    """
    single = Path(model_directory) / "model.safetensors"
    if single.exists():
        return sha256_of_file(single)
    shards = sorted(Path(model_directory).glob("model-*.safetensors"))
    if not shards:
        raise ArtifactError(f"No model.safetensors in {model_directory}; point to a checkpoint in safetensors format.")
    return sha256_of("".join(sha256_of_file(shard) for shard in shards).encode())


def check_model(manifest: Mapping[str, Any], model_directory: Path) -> None:
    """Refuse a basis that was learned on other weights, another tokenizer or another hidden size.

    Artifacts from before tokenizers were recorded are not checked for theirs.

    Raises:
        ArtifactError: If there are no weights, or no tokenizer although one is on record.
        ArtifactIncompatible: If they are not the ones that the manifest names.
    """
    model, directory = manifest["model"], Path(model_directory)
    pairs = {"weights": (model["sha256"][:12], model_sha256(directory)[:12])}
    if "tokenizer_sha256" in model:
        pairs["tokenizer"] = (model["tokenizer_sha256"][:12], tokenizer_sha256(directory)[:12])
    hidden = _hidden_size(directory)
    if manifest["trunk"] is None and hidden is not None:
        pairs["hidden size"] = (str(manifest["hidden_size"]), str(hidden))
    for name, (expected, found) in pairs.items():
        if expected != found:
            raise ArtifactIncompatible(
                f"Basis {manifest['version']} was made for model '{model['name']}' with {name} {expected}, but "
                f"{model_directory} holds {found}; use that model or fit a basis for this one."
            )


def _hidden_size(model_directory: Path) -> int | None:
    """What the checkpoint's configuration says, if it does."""
    path = model_directory / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("hidden_size")
    except (OSError, ValueError, AttributeError):
        return None  # whoever loads the model tells what is wrong with it
    return found if isinstance(found, int) else None


def check_trunk(artifact: BasisArtifact) -> None:
    """Refuse an artifact whose trunk's files are not those it was written with; nothing to do without a trunk.

    Raises:
        ArtifactError: If a file is missing or has changed.
    """
    if artifact.trunk is None:
        return
    found, expected = checkpoint_sha256(artifact.trunk), artifact.manifest["trunk"]["sha256"]
    if found != expected:
        raise ArtifactError(
            f"The trunk in {artifact.trunk} has SHA-256 {found[:12]}, the manifest records {expected[:12]}; {_REMEDY}."
        )


def _tensors(
    heads: np.ndarray,
    offset: np.ndarray,
    prior: Prior,
    curve: CertaintyCurve,
    reference: np.ndarray,
    candidate_sets: np.ndarray,
) -> dict[str, np.ndarray]:
    """What goes into the tensor file, by name; ``_EXPECTED`` and the prior's own arrays."""
    return {
        "heads": np.asarray(heads, np.float32),
        "offset": np.asarray(offset, np.float32),
        "reference": np.asarray(reference, np.float64),
        "candidate_sets": np.asarray(candidate_sets, np.float64),
        "certainty_raw": np.asarray(curve.raw, np.float64),
        "certainty_realised": np.asarray(curve.realised, np.float64),
        **{_PRIOR + name: np.asarray(array) for name, array in prior.arrays().items()},
    }


def _write(
    directory: Path, tensors: Mapping[str, np.ndarray], described: Mapping[str, Any], trunk: Path | None
) -> None:
    """Write the files of an artifact, the manifest last; then the trunk of a replaced one goes, if this has none."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": FORMAT,
        **described,
        "trunk": None if trunk is None else _keep_trunk(Path(trunk), directory / TRUNK),
        "hidden_size": int(tensors["heads"].shape[-1]),
        "K": int(tensors["heads"].shape[0]),
        "files": {TENSORS: write_tensors(directory / TENSORS, tensors)},
    }
    version = _version(manifest)
    _drop_values_of_others(directory / VALUES, version)
    write_manifest(directory, {**manifest, "version": version})
    if trunk is None and (directory / TRUNK).is_dir():
        shutil.rmtree(directory / TRUNK)


def _drop_values_of_others(values: Path, version: str) -> None:
    """Remove value heads of a basis that is being replaced; those of the same one stay."""
    if (values / MANIFEST).is_file():
        try:
            kept = json.loads((values / MANIFEST).read_text(encoding="utf-8"))["basis_version"] == version
        except (OSError, ValueError, KeyError, TypeError):
            kept = False
        if not kept:
            shutil.rmtree(values)


def _keep_trunk(source: Path, target: Path) -> dict[str, str]:
    copy_checkpoint(source, target)
    return {"sha256": checkpoint_sha256(target)}


def _version(manifest: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits over everything that serving depends on."""
    content = {key: value for key, value in manifest.items() if key not in {"version", "provenance"}}
    return sha256_of(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())[:12]


def _assemble(directory: Path, manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> BasisArtifact:
    size, hidden = int(manifest["K"]), int(manifest["hidden_size"])
    _check_sizes(tensors, size, hidden)
    _check_pooling(manifest["pooling"], has_trunk=manifest["trunk"] is not None)
    axes = tuple(Axis(int(one["index"]), one["label"], one["high"], one["low"]) for one in manifest["axes"])
    if [axis.index for axis in axes] != list(range(size)):
        raise ValueError(f"axes must be numbered 0 to {size - 1} in order")
    arrays = {name.removeprefix(_PRIOR): array for name, array in tensors.items() if name.startswith(_PRIOR)}
    prior = load_prior(manifest["prior"]["family"], arrays)
    if prior.population.size != size:
        raise ValueError(f"the prior is about {prior.population.size} coefficients, K={size}")
    basis = Basis(
        version=manifest["version"],
        model=manifest["model"]["name"],
        axes=axes,
        prior=prior,
        response=ResponseModel(**manifest["response"]),
        reference=tensors["reference"],
        certainty_curve=CertaintyCurve(tensors["certainty_raw"], tensors["certainty_realised"]),
        candidate_sets=tensors["candidate_sets"],
    )
    trunk = None if manifest["trunk"] is None else directory / TRUNK
    return BasisArtifact(basis, tensors["heads"], tensors["offset"], manifest, trunk)


def _check_sizes(tensors: Mapping[str, np.ndarray], size: int, hidden: int) -> None:
    expected = {
        "heads": (size, hidden),
        "offset": (size,),
        "reference": (len(tensors["reference"]), size),
        "candidate_sets": (*tensors["candidate_sets"].shape[:2], size),
    }
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"'{name}' has shape {tensors[name].shape}, K={size} and H={hidden} need {shape}")


def _check_pooling(pooling: str, *, has_trunk: bool) -> None:
    if pooling not in (POOLINGS if has_trunk else (RESPONSE_MEAN,)):
        where = "a trunk" if has_trunk else "the model that generates"
        raise ValueError(f"pooling is {pooling!r}, which {where} does not support")
