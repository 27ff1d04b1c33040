"""Reads and writes the files of an artifact directory, whose SHA-256 hashes its manifest records.

Knows JSON, safetensors and hashes. Does not know what the files mean.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from app.errors import ArtifactError, ArtifactIncompatible

MANIFEST = "manifest.json"


def sha256_of(content: bytes) -> str:
    """Hexadecimal SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file of any size; raises ``ArtifactError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); restore the file.") from error


def read_manifest(directory: Path, form: int, remedy: str) -> dict[str, Any]:
    """The manifest of ``directory`` as a mapping, checked to be of format ``form``.

    Raises:
        ArtifactError: If it is missing or is not a JSON object.
        ArtifactIncompatible: If another format wrote it.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{directory / MANIFEST} cannot be read ({error.strerror}); {remedy}.") from error
    except ValueError as error:
        raise ArtifactError(f"{directory / MANIFEST} is not JSON ({error}); {remedy}.") from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{directory / MANIFEST} is not a JSON object; {remedy}.")
    if manifest.get("format") != form:
        raise ArtifactIncompatible(
            f"{directory / MANIFEST} has format {manifest.get('format')!r}, this release reads {form}; {remedy}."
        )
    return manifest


def write_manifest(directory: Path, manifest: Mapping[str, object]) -> None:
    """Write the manifest, last of an artifact's files, so that an interrupted write leaves none that matches."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def read_checked(directory: Path, name: str, manifest: Mapping[str, Any], remedy: str) -> bytes:
    """Content of a file of the artifact, if its hash is the one on record.

    Raises:
        ArtifactError: If the file is missing, is not on record, or has changed.
    """
    path = directory / name
    files = manifest.get("files")
    expected = files.get(name) if isinstance(files, dict) else None
    if expected is None:
        raise ArtifactError(f"{directory / MANIFEST} records no hash of {name}; {remedy}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); {remedy}.") from error
    found = sha256_of(content)
    if found != expected:
        raise ArtifactError(f"{path} has SHA-256 {found[:12]}, the manifest records {expected[:12]}; {remedy}.")
    return content


def parse_tensors(
    path: Path,
    content: bytes,
    expected: Mapping[str, tuple[type[np.generic], int]],
    remedy: str,
    *,
    free: str | None = None,
) -> dict[str, np.ndarray]:
    """Named arrays out of safetensors bytes, each checked for its dtype, its number of axes and finite entries.

    Args:
        path: Where the bytes came from, for messages.
        content: The bytes of a safetensors file.
        expected: For each name the dtype and the number of axes.
        remedy: What to do about a broken file, for messages.
        free: Prefix of the names of further arrays, of any dtype and size, that are returned as well.

    Raises:
        ArtifactError: If the bytes are not safetensors or an entry is not finite.
        ArtifactIncompatible: If an array is missing or has another dtype or number of axes.
    """
    try:
        tensors: dict[str, np.ndarray] = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} is not a safetensors file ({error}); {remedy}.") from error
    for name, (dtype, axes) in expected.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != dtype or tensor.ndim != axes:
            found = "no such tensor" if tensor is None else f"{tensor.dtype} with {tensor.ndim} axes"
            raise ArtifactIncompatible(
                f"{path} must hold '{name}' as {np.dtype(dtype)} with {axes} axes, found {found}; {remedy}."
            )
    further = [name for name in tensors if free is not None and name.startswith(free)]
    for name in (*expected, *further):
        if not np.isfinite(tensors[name]).all():
            raise ArtifactError(f"'{name}' in {path} has entries that are not finite; {remedy}.")
    return {name: tensors[name] for name in (*expected, *further)}


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Write arrays as safetensors and return the file's SHA-256; the same arrays give the same bytes."""
    content: bytes = save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()})
    path.write_bytes(content)
    return sha256_of(content)
