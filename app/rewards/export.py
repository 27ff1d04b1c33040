"""Writes a checkpoint whose last vocabulary entries are the basis: reward heads as rows of the output matrix.

Any server that computes logits then computes the basis rewards of the text so far in the same pass. The rows follow
the model's own vocabulary, in this order: K reward rows, one zero row, and where value heads are exported theirs. With
log-probabilities instead of logits, the reward j is ``logprob(first + j) - logprob(first + K) + offset[j]``. The
tokenizer stays as it was: no text has these ids. ``attune.json`` binds the checkpoint to basis, model and tokenizer.
Knows files and shapes; runs no model.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.artifact import BasisArtifact, check_model
from app.rewards.checkpoint import checkpoint_files, tokenizer_sha256
from app.rewards.files import sha256_of_file
from app.rewards.language import ChatTokenizer
from app.rewards.values import ValueHeads

DESCRIPTION = "attune.json"
FORMAT = 1
SUPPORTED = ("llama", "qwen2")
VALUE_ARRAYS = "attune/values.safetensors"
MOST_STOCK_REWARDS = 127
"""Servers return the log-probabilities of at most 128 chosen ids, one of which is the zero row."""

_EMBEDDING, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_INDEX = "model.safetensors.index.json"
_REMEDY = "write it again with 'attune engine export'"


@dataclass(frozen=True)
class VirtualRows:
    """Where the rows lie: ``first`` is the model's own vocabulary size; the counts follow one another in this order.

    ``rewards`` is K. With value heads, ``buckets`` B of prefix lengths have 2 K rows each (weights of the last state,
    then weights of the mean state), and actions have K times ``rank`` rows; without, both are 0.
    """

    first: int
    rewards: int
    buckets: int = 0
    rank: int = 0

    @property
    def zero(self) -> int:
        """Id of the row whose logit is 0."""
        return self.first + self.rewards

    @property
    def values(self) -> int:
        """Id of the first row of the value heads."""
        return self.zero + 1

    @property
    def actions(self) -> int:
        """Id of the first row of the action heads."""
        return self.values + 2 * self.buckets * self.rewards

    @property
    def end(self) -> int:
        """One more than the last id."""
        return self.actions + self.rewards * self.rank


@dataclass(frozen=True)
class ExportedCheckpoint:
    """What ``attune.json`` says: which basis a checkpoint holds, in which rows, and of which model.

    ``context`` counts the tokens of prompt and response together; the checkpoint takes one more, which is generated
    only so that the state of the last one is computed, and dropped. ``end_ids`` finish a response; ``banned_ids`` of
    the model's own vocabulary may not occur in one.
    """

    directory: Path
    basis_version: str
    model_name: str
    model_sha256: str
    tokenizer_sha256: str
    rows: VirtualRows
    offset: tuple[float, ...]
    context: int
    end_ids: tuple[int, ...]
    banned_ids: tuple[int, ...]
    values_version: str | None
    files: Mapping[str, str]


def export_checkpoint(
    model_directory: Path, artifact: BasisArtifact, out: Path, *, values: ValueHeads | None = None
) -> ExportedCheckpoint:
    """Write the augmented checkpoint to ``out`` and return what its description says.

    The output matrix is stored in float32, so that the heads lose nothing until a server rounds them to its own dtype.

    Args:
        model_directory: A Llama or Qwen2 checkpoint, the one that the basis was made for.
        artifact: The basis; one with a trunk of its own cannot be exported.
        out: Created if needed; must be empty or an earlier export.
        values: Value heads to export as well, for engines that steer; a stock server has no use for them.

    Raises:
        ArtifactError: If files are missing, or ``out`` holds something else.
        ArtifactIncompatible: If the basis was made for other weights, reads another trunk, or the architecture is
            not one of ``SUPPORTED``.
    """
    model_directory, out = Path(model_directory), Path(out)
    config = _checked_config(model_directory, artifact)
    _make_room(out, model_directory)
    rows = _layout(int(config["vocab_size"]), artifact, values)
    context = int(config["max_position_embeddings"])
    hashes = _write_weights(model_directory, out, _virtual_weights(artifact, values), rows.first)
    grown = {"vocab_size": rows.end, "tie_word_embeddings": False, "max_position_embeddings": context + 1}
    _write_json(out / "config.json", {**config, **grown})
    for path in checkpoint_files(model_directory):
        if path.suffix != ".safetensors" and path.name not in ("config.json", _INDEX):
            shutil.copyfile(path, out / path.name)
    if values is not None:
        hashes[VALUE_ARRAYS] = _write_values(out, values)
    tokenizer = load_tokenizer(out, rows.first)
    described = ExportedCheckpoint(
        directory=out,
        basis_version=artifact.basis.version,
        model_name=artifact.basis.model,
        model_sha256=artifact.manifest["model"]["sha256"],
        tokenizer_sha256=tokenizer_sha256(out),
        rows=rows,
        offset=tuple(float(one) for one in artifact.offset),
        context=context,
        end_ids=tokenizer.end_ids,
        banned_ids=tokenizer.banned_ids,
        values_version=None if values is None else str(values.manifest["version"]),
        files=hashes,
    )
    _write_json(out / DESCRIPTION, {"format": FORMAT, **asdict(described), "directory": None})
    return described


def read_description(directory: Path) -> ExportedCheckpoint:
    """What ``attune.json`` in ``directory`` says; the files themselves are not looked at.

    Raises:
        ArtifactError: If there is none, or it is malformed.
        ArtifactIncompatible: If another format wrote it.
    """
    path = Path(directory) / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        form = content.pop("format")
        if form != FORMAT:
            raise ArtifactIncompatible(f"{path} has format {form!r}, this release reads {FORMAT}; {_REMEDY}.")
        content |= {"directory": Path(directory), "rows": VirtualRows(**content["rows"])}
        content |= {name: tuple(content[name]) for name in ("offset", "end_ids", "banned_ids")}
        return ExportedCheckpoint(**content)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); {_REMEDY}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path} is malformed ({error!r}); {_REMEDY}.") from error


def check_export(found: ExportedCheckpoint, artifact: BasisArtifact, values: ValueHeads | None = None) -> None:
    """Refuse an exported checkpoint that does not hold this basis, or whose files are not those that were written.

    Raises:
        ArtifactError: If a file is missing or has changed.
        ArtifactIncompatible: If basis, K, model, tokenizer or value heads differ.
    """
    size = len(artifact.heads)
    wanted = {
        "basis": (found.basis_version, artifact.basis.version),
        "K": (found.rows.rewards, size),
        "model": (found.model_sha256[:12], str(artifact.manifest["model"]["sha256"])[:12]),
        "tokenizer": (found.tokenizer_sha256[:12], tokenizer_sha256(found.directory)[:12]),
    }
    if values is not None:
        wanted["value heads"] = (found.values_version, str(values.manifest["version"]))
    for what, (has, needs) in wanted.items():
        if has != needs:
            raise ArtifactIncompatible(
                f"{found.directory / DESCRIPTION} names {what} {has}, but {needs} is needed; {_REMEDY}."
            )
    for name, expected in found.files.items():
        actual = sha256_of_file(found.directory / name)
        if actual != expected:
            raise ArtifactError(
                f"{found.directory / name} has SHA-256 {actual[:12]}, {DESCRIPTION} records {expected[:12]}; {_REMEDY}."
            )


def load_tokenizer(directory: Path, vocabulary: int) -> ChatTokenizer:
    """The tokenizer of a checkpoint whose network has ``vocabulary`` outputs, without its weights.

    Raises:
        ArtifactError: If its files are missing or broken.
        ArtifactIncompatible: If it has no chat template or names no end token.
    """
    from transformers import AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        generation = GenerationConfig.from_pretrained(directory, local_files_only=True).eos_token_id
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"The tokenizer in {directory} cannot be loaded ({error}); restore its files.") from error
    listed = generation if isinstance(generation, list) else [generation]
    ends = [one for one in (*listed, tokenizer.eos_token_id) if one is not None]
    if tokenizer.chat_template is None or not ends:
        missing = "chat template" if tokenizer.chat_template is None else "end token"
        raise ArtifactIncompatible(f"The tokenizer in {directory} has no {missing}; use an instruction model.")
    return ChatTokenizer(tokenizer, ends, vocabulary)


def _checked_config(directory: Path, artifact: BasisArtifact) -> dict[str, Any]:
    """The model's configuration, if this basis can be written into it."""
    if artifact.trunk is not None:
        raise ArtifactIncompatible(
            f"Basis {artifact.basis.version} is read by a trunk of its own, which no row of the model's output matrix "
            f"can do; use the transformers or openai backend, or fit a basis on the model itself."
        )
    checkpoint_files(directory)
    check_model(artifact.manifest, directory)
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") not in SUPPORTED:
        raise ArtifactIncompatible(
            f"The model in {directory} is a '{config.get('model_type')}'; export supports {' and '.join(SUPPORTED)}."
        )
    if config["hidden_size"] != artifact.heads.shape[1]:
        raise ArtifactIncompatible(
            f"Basis {artifact.basis.version} reads {artifact.heads.shape[1]} hidden values, the model in {directory} "
            f"has {config['hidden_size']}; use the model that the basis was made for."
        )
    return config


def _make_room(out: Path, model_directory: Path) -> None:
    """Create ``out``, or empty it if an earlier export is all that it holds."""
    if out.resolve() == model_directory.resolve():
        raise ArtifactError(f"{out} is the model itself; export to another directory.")
    if out.is_dir() and any(out.iterdir()):
        if not (out / DESCRIPTION).is_file():
            raise ArtifactError(f"{out} is not empty and holds no {DESCRIPTION}; export to another directory.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def _layout(first: int, artifact: BasisArtifact, values: ValueHeads | None) -> VirtualRows:
    size = len(artifact.heads)
    if values is None:
        return VirtualRows(first, size)
    return VirtualRows(first, size, len(values.bounds), values.action_states.shape[1])


def _virtual_weights(artifact: BasisArtifact, values: ValueHeads | None) -> torch.Tensor:
    """All virtual rows (rows, hidden) in the order of ``VirtualRows``."""
    heads = artifact.heads
    hidden = heads.shape[1]
    parts = [heads, np.zeros((1, hidden), np.float32)]
    if values is not None:
        for bucket in values.weight:
            parts += [bucket[:, :hidden], bucket[:, hidden:]]
        parts.append(values.action_states.reshape(-1, hidden))
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def _write_weights(source: Path, out: Path, virtual: torch.Tensor, first: int) -> dict[str, str]:
    """Copy the shards, the embedding and the output matrix grown by the virtual rows; returns their hashes."""
    shards = sorted(path for path in source.glob("*.safetensors"))
    homes = {name: shard for shard in shards for name in _names(shard)}
    if _EMBEDDING not in homes:
        raise ArtifactIncompatible(
            f"The model in {source} has no {_EMBEDDING}; export supports {' and '.join(SUPPORTED)}."
        )
    homes.setdefault(_OUTPUT, homes[_EMBEDDING])
    for shard in shards:
        tensors = _read(shard)
        if homes[_OUTPUT] == shard and _OUTPUT not in tensors:
            tensors[_OUTPUT] = tensors[_EMBEDDING].clone()
        if homes[_OUTPUT] == shard:
            tensors[_OUTPUT] = torch.cat([tensors[_OUTPUT][:first].float(), virtual])
        if homes[_EMBEDDING] == shard:
            embedding = tensors[_EMBEDDING][:first]
            tensors[_EMBEDDING] = torch.cat([embedding, embedding.new_zeros(len(virtual), embedding.shape[1])])
        save_file(tensors, out / shard.name, metadata={"format": "pt"})
    if len(shards) > 1:
        _write_json(out / _INDEX, {"metadata": {}, "weight_map": {name: home.name for name, home in homes.items()}})
    return {shard.name: sha256_of_file(out / shard.name) for shard in shards}


def _names(shard: Path) -> list[str]:
    with safe_open(shard, framework="pt") as file:
        return list(file.keys())


def _read(shard: Path) -> dict[str, torch.Tensor]:
    with safe_open(shard, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a mapping)


def _write_values(out: Path, values: ValueHeads) -> str:
    """What of the value heads is no row of the output matrix; returns the file's hash."""
    path = out / VALUE_ARRAYS
    path.parent.mkdir()
    arrays = {
        "bounds": np.asarray(values.bounds, np.int64),
        "offset": np.asarray(values.offset, np.float32),
        "action_offset": np.asarray(values.action_offset, np.float32),
        "action_tokens": np.asarray(values.action_tokens, np.float32),
        "scale": np.array([values.scale], np.float64),
    }
    save_arrays({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return sha256_of_file(path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
