"""Value heads: what a beginning of a response promises, and what each next token adds, in basis rewards.

A directory ``values/`` inside a basis artifact, of ``manifest.json`` and ``values.safetensors``, bound to that basis
and to the model's weights and tokenizer. All heads are linear in the states that decoding computes anyway, so any mix
of basis rewards is one product. Needs numpy and safetensors only; does not run the model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from app.entities import FrontierPoint
from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.artifact import VALUES, BasisArtifact
from app.rewards.checkpoint import tokenizer_sha256
from app.rewards.files import (
    MANIFEST,
    parse_tensors,
    read_checked,
    read_manifest,
    sha256_of,
    write_manifest,
    write_tensors,
)

FORMAT = 1
TENSORS = "values.safetensors"
_REMEDY = "fit the value heads again with 'attune basis values' or restore them from their source"
_EXPECTED: dict[str, tuple[type[np.generic], int]] = {
    "bounds": (np.int64, 1),
    "weight": (np.float32, 3),
    "offset": (np.float32, 2),
    "errors": (np.float64, 3),
    "action_states": (np.float32, 3),
    "action_offset": (np.float32, 2),
    "action_tokens": (np.float32, 2),
}
_UNVERSIONED = frozenset({"version", "provenance", "frontier"})


@dataclass(frozen=True)
class ValueHeads:
    """Predictors of a finished response's basis rewards, offset included, from its first t tokens (t >= 1).

    With h_t (hidden,) the last hidden state of token t after the final norm, m_t the mean of h_1 … h_t, and b the last
    bucket with ``bounds[b] <= t``:

        V_j(s_t)             = weight[b, j] @ [h_t, m_t] + offset[b, j]
        Q_j(s_t, a) - V_j(s) = action_tokens[a] @ (action_states[j] @ h_t + action_offset[j])

    where a is the next token, an end mark included, and at t = 0 h_0 is the state of the prompt's last token.
    What is fitted of the latter are its differences between next tokens in one state, which are all that guidance
    depends on. ``errors`` are covariances of (final - predicted) between responses to one prompt, on prompts that the
    heads did not learn from. Guidance adds ``strength * scale * coefficients @ (Q - V)`` to the log-probabilities;
    ``scale`` was chosen on training prompts.

    Source:
        V: Mudgal et al., "Controlled Decoding from Language Models" (2024), sec. 3.1. Q - V: Han et al., "Value
        Augmented Sampling for Language Model Alignment and Personalization" (2024), sec. 3.
    """

    bounds: Int64[np.ndarray, " buckets"]
    weight: Float32[np.ndarray, "buckets basis twice_hidden"]
    offset: Float32[np.ndarray, "buckets basis"]
    errors: Float64[np.ndarray, "buckets basis basis"]
    action_states: Float32[np.ndarray, "basis rank hidden"]
    action_offset: Float32[np.ndarray, "basis rank"]
    action_tokens: Float32[np.ndarray, "vocabulary rank"]
    scale: float
    frontier: Sequence[FrontierPoint]
    manifest: Mapping[str, Any]


def values_directory(basis_directory: Path) -> Path | None:
    """Where a basis artifact keeps its value heads; None if it has none."""
    found = Path(basis_directory) / VALUES
    return found if (found / MANIFEST).is_file() else None


def load_values(directory: Path) -> ValueHeads:
    """Read and verify the value heads in ``directory``; ``check_values`` tells whether they fit a basis and a model.

    Raises:
        ArtifactError: If a file is missing, has changed since it was written, or holds values that are not finite.
        ArtifactIncompatible: If the format or a size is not one that this release can use.
    """
    directory = Path(directory)
    manifest = read_manifest(directory, FORMAT, _REMEDY)
    content = read_checked(directory, TENSORS, manifest, _REMEDY)
    tensors = parse_tensors(directory / TENSORS, content, _EXPECTED, _REMEDY)
    try:
        _check_sizes(tensors, manifest)
        frontier = tuple(FrontierPoint(**one) for one in manifest["frontier"])
        scale, version = float(manifest["scale"]), manifest["version"]
        if not (np.isfinite(scale) and scale >= 0):
            raise ValueError(f"'scale' is {scale}, it must be a finite number that is not negative")
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactIncompatible(f"The value heads in {directory} are malformed ({error!r}); {_REMEDY}.") from error
    if version != _version(manifest):
        raise ArtifactError(f"The manifest in {directory} was changed after it was written; {_REMEDY}.")
    return ValueHeads(**{name: tensors[name] for name in _EXPECTED}, scale=scale, frontier=frontier, manifest=manifest)


def save_values(
    directory: Path,
    *,
    artifact: BasisArtifact,
    model_directory: Path,
    bounds: Int64[np.ndarray, " buckets"],
    weight: Float32[np.ndarray, "buckets basis twice_hidden"],
    offset: Float32[np.ndarray, "buckets basis"],
    errors: Float64[np.ndarray, "buckets basis basis"],
    action_states: Float32[np.ndarray, "basis rank hidden"],
    action_offset: Float32[np.ndarray, "basis rank"],
    action_tokens: Float32[np.ndarray, "vocabulary rank"],
    scale: float,
    max_tokens: int,
    provenance: Mapping[str, object],
) -> ValueHeads:
    """Write value heads and return them as ``load_values`` reads them back.

    Args:
        directory: Created if needed; value heads in it are replaced.
        artifact: The basis whose rewards they predict.
        model_directory: The checkpoint whose states they read.
        bounds: Fewest tokens of each bucket, ascending from 1.
        weight: See ``ValueHeads``, as are the other arrays.
        offset: The constant of each bucket.
        errors: What each bucket's predictions missed on held-out prompts.
        action_states: Of a state, what its next tokens may add.
        action_offset: The same, in every state.
        action_tokens: Of each token of the model's vocabulary.
        scale: Log-odds for each unit of value at strength 1.
        max_tokens: Where responses were cut that they learned from.
        provenance: Anything worth remembering; it does not enter the version.

    Raises:
        ArtifactError: If an array is not finite or the model's files are missing.
        ArtifactIncompatible: If the sizes contradict each other.
    """
    given = locals()
    tensors = {name: np.asarray(given[name], kind) for name, (kind, _) in _EXPECTED.items()}
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": FORMAT,
        "basis_version": artifact.basis.version,
        "model": {**artifact.manifest["model"], "tokenizer_sha256": tokenizer_sha256(model_directory)},
        "hidden_size": int(tensors["action_states"].shape[-1]),
        "K": len(artifact.basis.axes),
        "vocabulary": len(tensors["action_tokens"]),
        "rank": int(tensors["action_tokens"].shape[-1]),
        "max_tokens": max_tokens,
        "scale": scale,
        "files": {TENSORS: write_tensors(directory / TENSORS, tensors)},
        "frontier": [],
        "provenance": dict(provenance),
    }
    write_manifest(directory, {**manifest, "version": _version(manifest)})
    return load_values(directory)


def record_frontier(directory: Path, points: Sequence[FrontierPoint]) -> ValueHeads:
    """Put what ways of answering were measured to be worth into the manifest, in place of earlier measurements.

    The versions of the basis and of the value heads stay as they are.

    Args:
        directory: Of the value heads, as ``values_directory`` tells it.
        points: Measured ways; those that a finer one dominates may be among them.

    Returns:
        The value heads with their new frontier.

    Raises:
        ArtifactError: If there are no value heads, or they are damaged.
        ArtifactIncompatible: If this release cannot use them.
    """
    manifest = load_values(directory).manifest
    write_manifest(Path(directory), {**manifest, "frontier": [asdict(one) for one in points]})
    return load_values(directory)


def check_values(values: ValueHeads, artifact: BasisArtifact, model_directory: Path) -> None:
    """Refuse value heads that were made for another basis, other weights, another tokenizer or another vocabulary.

    Weights are compared as the manifests record them: ``artifact.check_model`` compares the basis' record with the
    files in ``model_directory``.

    Raises:
        ArtifactError: If the model's files are missing.
        ArtifactIncompatible: If anything differs; the message names it and the remedy.
    """
    manifest, basis = values.manifest, artifact.manifest
    pairs = {
        "basis": (manifest["basis_version"], basis["version"]),
        "model weights": (manifest["model"]["sha256"][:12], basis["model"]["sha256"][:12]),
        "K": (manifest["K"], basis["K"]),
        "tokenizer": (manifest["model"]["tokenizer_sha256"][:12], tokenizer_sha256(model_directory)[:12]),
        **{name: (manifest[key], found) for name, key, found in _model_sizes(model_directory) if found is not None},
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            raise ArtifactIncompatible(
                f"The value heads {manifest['version']} were made for {name} {expected}, but basis "
                f"{basis['version']} with the model in {model_directory} has {found}; fit them for these with 'attune "
                "basis values', or remove the directory 'values' from the basis to serve without guidance."
            )


def _model_sizes(model_directory: Path) -> list[tuple[str, str, int | None]]:
    """Sizes by their words, their keys in the manifest, and what the checkpoint's configuration says, if anything."""
    path = Path(model_directory) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); point to a checkpoint directory.") from error
    return [
        ("hidden size", "hidden_size", config.get("hidden_size")),
        ("vocabulary", "vocabulary", config.get("vocab_size")),
    ]


def _check_sizes(tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
    buckets, size, hidden = len(tensors["bounds"]), int(manifest["K"]), int(manifest["hidden_size"])
    rank, vocabulary = int(manifest["rank"]), int(manifest["vocabulary"])
    expected = {
        "weight": (buckets, size, 2 * hidden),
        "offset": (buckets, size),
        "errors": (buckets, size, size),
        "action_states": (size, rank, hidden),
        "action_offset": (size, rank),
        "action_tokens": (vocabulary, rank),
    }
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"'{name}' has shape {tensors[name].shape}, the manifest's sizes need {shape}")
    bounds = tensors["bounds"]
    if not buckets or bounds[0] != 1 or (np.diff(bounds) <= 0).any():
        raise ValueError(f"'bounds' must rise from 1, found {bounds.tolist()}")


def _version(manifest: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits over everything that decoding depends on."""
    content = {key: value for key, value in manifest.items() if key not in _UNVERSIONED}
    return sha256_of(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())[:12]
