"""Which network computes the features that a basis is learned on: the model that generates, another, or a tuned one."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from app.rewards.artifact import TRUNK
from app.rewards.checkpoint import checkpoint_sha256
from app.rewards.files import sha256_of
from app.rewards.trunk import RESPONSE_MEAN, Trunk
from app.rewards.trunk_transformers import load_trunk
from app.training.dataset import ComparisonData
from app.training.features import Progress, silent
from app.training.lora import LoraOptions, tune_trunk

_NOTE = "trunk.tuned"


@dataclass(frozen=True)
class TrunkChoice:
    """A checkpoint (None for the model that generates), its ``pooling``, and the rank of the adapters to tune it with.

    No adapters are trained at ``lora_rank`` 0. Features are kept in ``cache``, if that is a directory.
    """

    directory: Path | None = None
    pooling: str | None = None
    lora_rank: int = 0
    cache: Path | None = None


@dataclass(frozen=True)
class OpenedTrunk:
    """A loaded trunk; ``directory`` is what an artifact must carry, None where that is the model that generates."""

    trunk: Trunk
    directory: Path | None


def open_trunk(
    choice: TrunkChoice,
    model_directory: Path,
    out: Path,
    training: Callable[[Trunk], ComparisonData],
    *,
    seed: int,
    progress: Progress = silent,
) -> OpenedTrunk:
    """Load the chosen trunk, tuned first if adapters were asked for.

    Args:
        choice: What was asked for.
        model_directory: The model that generates.
        out: Directory of the artifact to be written; a tuned trunk goes into its ``trunk``. One that an interrupted
            run with the same data and options has left there is used again.
        training: Gives the comparisons of training people whose texts fit into a trunk; called only for tuning.
        seed: Seeds the tuning.
        progress: Called after every step of the tuning.

    Raises:
        ArtifactError: If a checkpoint cannot be loaded.
        ArtifactIncompatible: If it cannot pool as asked.
    """
    source = choice.directory or model_directory
    trunk = load_trunk(source, choice.pooling)
    if choice.lora_rank > 0:
        options = LoraOptions(rank=choice.lora_rank)
        _tune_once(source, trunk, training(trunk), out, options, seed, progress)
        return OpenedTrunk(load_trunk(out / TRUNK, trunk.pooling), out / TRUNK)
    generates = choice.directory is None and trunk.pooling == RESPONSE_MEAN
    return OpenedTrunk(trunk, None if generates else source)


def _tune_once(
    source: Path, trunk: Trunk, data: ComparisonData, out: Path, options: LoraOptions, seed: int, progress: Progress
) -> None:
    """Tune into ``out / TRUNK`` unless a note beside it says that this very tuning ended there."""
    target, note = out / TRUNK, out / _NOTE
    wanted = _identity(trunk, data, options, seed)
    if note.is_file() and target.is_dir() and note.read_text() == f"{wanted} {checkpoint_sha256(target)}":
        return
    tune_trunk(source, data, target, pooling=trunk.pooling, options=options, seed=seed, progress=progress)
    note.write_text(f"{wanted} {checkpoint_sha256(target)}")


def _identity(trunk: Trunk, data: ComparisonData, options: LoraOptions, seed: int) -> str:
    """A hash of everything that a tuned trunk depends on."""
    settings = {"trunk": trunk.fingerprint, "pooling": trunk.pooling, "options": asdict(options), "seed": seed}
    texts = [[[[one.role, one.content] for one in prompt], response] for prompt, response in data.rows]
    columns = b"".join(column.tobytes() for column in (data.first, data.second, data.people, data.labels))
    return sha256_of(json.dumps([settings, texts]).encode() + columns)
