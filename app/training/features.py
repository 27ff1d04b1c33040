"""Features of many texts, kept on disk under a hash of everything they depend on, so that none is computed twice.

A cache directory holds safetensors files of up to ``SHARD_ROWS`` rows, each written whole or not at all: a run that
was killed goes on where the last file ended, and several runs may share a directory. Does not know what features mean.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from app.errors import ArtifactError
from app.rewards.trunk import Row, Trunk

SHARD_ROWS = 1024
_SHARDS = "*.features"

Progress = Callable[[int, int], None]
"""Called with the number of rows done and the number of rows to do."""


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def compute_features(
    trunk: Trunk, rows: Sequence[Row], *, cache: Path | None = None, progress: Progress = silent
) -> Float32[np.ndarray, "rows hidden"]:
    """Features of ``rows`` by ``trunk``, through a ``FeatureCache`` if a directory for one is given.

    The order of the rows, and so the side of a pair that a text is on, does not change a bit of them.
    """
    if cache is not None:
        return FeatureCache(cache, trunk).features(rows, progress)
    features = np.empty((len(rows), trunk.hidden), np.float32)
    order = sorted(range(len(rows)), key=lambda number: _text(rows[number]))
    for part in _parts(len(rows), SHARD_ROWS):
        features[order[part]] = trunk.features([rows[number] for number in order[part]])
        progress(part.stop, len(rows))
    return features


class FeatureCache:
    """The features of one trunk, under ``directory``; another trunk or pooling finds nothing of them."""

    def __init__(self, directory: Path, trunk: Trunk, *, shard_rows: int = SHARD_ROWS) -> None:
        """Use the files in ``directory``, which is created if needed; a file holds at most ``shard_rows`` rows."""
        self._trunk, self._shard_rows = trunk, shard_rows
        self._directory = Path(directory) / _digest(trunk.fingerprint, trunk.pooling).hex()[:16]
        self._directory.mkdir(parents=True, exist_ok=True)

    def features(self, rows: Sequence[Row], progress: Progress = silent) -> Float32[np.ndarray, "rows hidden"]:
        """Features of ``rows``; the missing ones are computed, and kept after every ``shard_rows`` rows.

        Raises:
            ArtifactError: If a file of the cache cannot be read.
            PromptTooLong: If a row exceeds the trunk's context.
        """
        places: dict[bytes, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(self._key(row), []).append(place)
        features = np.empty((len(rows), self._trunk.hidden), np.float32)
        done = 0
        for keys, known in self._shards():
            for key, values in zip(keys, known, strict=True):
                chosen = places.pop(key, [])
                features[chosen] = values
                done += len(chosen)
        progress(done, len(rows))
        missing = sorted(places.items(), key=lambda item: _text(rows[item[1][0]]))
        for part in _parts(len(missing), self._shard_rows):
            computed = self._trunk.features([rows[chosen[0]] for _, chosen in missing[part]])
            self._keep([key for key, _ in missing[part]], computed)
            for (_, chosen), values in zip(missing[part], computed, strict=True):
                features[chosen] = values
                done += len(chosen)
            progress(done, len(rows))
        return features

    def _key(self, row: Row) -> bytes:
        return _digest(self._trunk.fingerprint, self._trunk.pooling, *_text(row))

    def _shards(self) -> Iterator[tuple[list[bytes], Float32[np.ndarray, "rows hidden"]]]:
        """Keys and features of every file."""
        for path in sorted(self._directory.glob(_SHARDS)):
            try:
                tensors = load_file(path)
                yield [key.tobytes() for key in tensors["keys"]], tensors["features"]
            except (OSError, SafetensorError, KeyError) as error:
                raise ArtifactError(f"{path} cannot be read ({error}); delete it, it will be made again.") from error

    def _keep(self, keys: Sequence[bytes], features: Float32[np.ndarray, "rows hidden"]) -> None:
        """Write one file: under another name first, so that no reader ever sees a part of it."""
        names = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
        path = self._directory / f"{_digest(*(key.hex() for key in keys)).hex()[:16]}.features"
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        with unfinished.open("wb") as file:
            file.write(save({"keys": names, "features": np.ascontiguousarray(features)}))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)


def _text(row: Row) -> tuple[str, str]:
    """The conversation and the response, as texts that order rows and identify them."""
    return json.dumps([[one.role, one.content] for one in row[0]]), row[1]


def _digest(*texts: str) -> bytes:
    """SHA-256 over texts with their lengths, so that no two lists of texts run together."""
    content = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        content.update(len(encoded).to_bytes(8, "big") + encoded)
    return content.digest()


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
