"""The basis artifact: K linear reward heads on a frozen language model, with the population's prior over them.

A directory of two files, ``manifest.json`` and ``basis.safetensors``, both read with every hash verified. Needs
numpy and safetensors only, so that a machine without torch can serve the API. Does not run the model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from app.entities import Axis, Basis
from app.errors import ArtifactError, ArtifactIncompatible
from app.preferences.posterior import Posterior
from app.rewards.files import (
    FORMAT,
    parse_tensors,
    read_checked,
    read_manifest,
    sha256_of,
    sha256_of_file,
    write_manifest,
    write_tensors,
)

TENSORS = "basis.safetensors"
POOLING = "response_mean"
_REMEDY = "write the basis again with 'attune basis fit' or restore it from its source"
_EXPECTED: dict[str, tuple[type[np.generic], int]] = {
    "heads": (np.float32, 2),
    "offset": (np.float32, 1),
    "prior_mean": (np.float64, 1),
    "prior_precision": (np.float64, 2),
    "reference": (np.float64, 2),
}


@dataclass(frozen=True)
class BasisArtifact:
    """A basis with the heads that compute it.

    ``basis_rewards(text) = heads @ mean_t(h_t) + offset``, where ``h_t`` (hidden,) is the model's last hidden state
    after its final norm at the t-th token of the response; the prompt's tokens and the end mark do not count.
    ``manifest`` is what the file says, ``provenance`` included.
    """

    basis: Basis
    heads: Float32[np.ndarray, "basis hidden"]
    offset: Float32[np.ndarray, " basis"]
    manifest: Mapping[str, Any]


def load_basis(directory: Path) -> BasisArtifact:
    """Read and verify the basis artifact in ``directory``.

    Raises:
        ArtifactError: If a file is missing, has changed since it was written, or holds values that are not finite.
        ArtifactIncompatible: If the format, the pooling or a size is not one that this release can use.
    """
    directory = Path(directory)
    manifest = read_manifest(directory, _REMEDY)
    tensors = parse_tensors(
        directory / TENSORS, read_checked(directory, TENSORS, manifest, _REMEDY), _EXPECTED, _REMEDY
    )
    try:
        artifact = _assemble(manifest, tensors)
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
    prior: Posterior,
    reference: Float64[np.ndarray, "pairs basis"],
    axes: Sequence[Axis],
    exponent: float,
    certainty_scale: float,
    provenance: Mapping[str, object],
) -> BasisArtifact:
    """Write a basis artifact and return it as ``load_basis`` reads it back.

    Args:
        directory: Created if needed; an artifact in it is replaced.
        model_name: Name of the language model, as ``/v1/models`` lists it.
        model_directory: Its checkpoint; the basis is refused for any other weights.
        heads: Reward directions in the hidden space.
        offset: Added to the pooled rewards.
        prior: The population's belief about coefficients, in log-odds per unit of basis reward.
        reference: Basis reward differences between responses as served, for ``certainty``.
        axes: Words for each basis reward, in order.
        exponent: Tempering of the likelihood.
        certainty_scale: Correction of certainty to realised accuracy.
        provenance: Anything worth remembering; it does not enter the version.

    Raises:
        ArtifactError: If the arrays are not finite or the checkpoint is missing.
        ArtifactIncompatible: If the sizes contradict each other.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {
        "heads": np.asarray(heads, np.float32),
        "offset": np.asarray(offset, np.float32),
        "prior_mean": np.asarray(prior.mean, np.float64),
        "prior_precision": np.asarray(prior.precision, np.float64),
        "reference": np.asarray(reference, np.float64),
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "model": {"name": model_name, "sha256": model_sha256(model_directory)},
        "pooling": POOLING,
        "hidden_size": int(tensors["heads"].shape[-1]),
        "K": int(tensors["heads"].shape[0]),
        "axes": [asdict(axis) for axis in axes],
        "exponent": float(exponent),
        "certainty_scale": float(certainty_scale),
        "files": {TENSORS: write_tensors(directory / TENSORS, tensors)},
        "provenance": dict(provenance),
    }
    manifest["version"] = _version(manifest)
    write_manifest(directory, manifest)
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
    """Refuse a basis that was learned on other weights than those in ``model_directory``.

    Raises:
        ArtifactError: If there are no weights.
        ArtifactIncompatible: If they are not the ones that the manifest names.
    """
    found, expected = model_sha256(model_directory), manifest["model"]["sha256"]
    if found != expected:
        raise ArtifactIncompatible(
            f"Basis {manifest['version']} was made for model '{manifest['model']['name']}' ({expected[:12]}), but "
            f"{model_directory} holds {found[:12]}; use that model or fit a basis for this one."
        )


def _version(manifest: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits over everything that serving depends on."""
    content = {key: value for key, value in manifest.items() if key not in {"version", "provenance"}}
    return sha256_of(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())[:12]


def _assemble(manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> BasisArtifact:
    size, hidden = int(manifest["K"]), int(manifest["hidden_size"])
    _check_sizes(tensors, size, hidden)
    if manifest["pooling"] != POOLING:
        raise ValueError(f"pooling is {manifest['pooling']!r}, only {POOLING!r} is supported")
    axes = tuple(Axis(int(one["index"]), one["label"], one["high"], one["low"]) for one in manifest["axes"])
    if [axis.index for axis in axes] != list(range(size)):
        raise ValueError(f"axes must be numbered 0 to {size - 1} in order")
    exponent, scale = float(manifest["exponent"]), float(manifest["certainty_scale"])
    if not (0 < exponent < np.inf and 0 < scale < np.inf):
        raise ValueError(f"exponent {exponent} and certainty_scale {scale} must be positive and finite")
    np.linalg.cholesky(tensors["prior_precision"])
    basis = Basis(
        version=manifest["version"],
        model=manifest["model"]["name"],
        axes=axes,
        prior=Posterior(tensors["prior_mean"], tensors["prior_precision"]),
        exponent=exponent,
        reference=tensors["reference"],
        certainty_scale=scale,
    )
    return BasisArtifact(basis, tensors["heads"], tensors["offset"], manifest)


def _check_sizes(tensors: Mapping[str, np.ndarray], size: int, hidden: int) -> None:
    expected = {
        "heads": (size, hidden),
        "offset": (size,),
        "prior_mean": (size,),
        "prior_precision": (size, size),
        "reference": (len(tensors["reference"]), size),
    }
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"'{name}' has shape {tensors[name].shape}, K={size} and H={hidden} need {shape}")
