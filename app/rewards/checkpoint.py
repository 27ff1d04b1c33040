"""A checkpoint directory in transformers' format as files: what identifies it, and how it is copied.

Needs no torch. Does not know what the files compute.
"""

import json
import shutil
from pathlib import Path

from app.errors import ArtifactError
from app.rewards.files import sha256_of, sha256_of_file

_SUFFIXES = frozenset({".json", ".jinja", ".model", ".safetensors", ".txt"})
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")


def checkpoint_files(directory: Path) -> list[Path]:
    """The files of a checkpoint that its results depend on (weights, sizes, tokenizer, chat template), by name.

    Raises:
        ArtifactError: If there is no configuration or no weights in safetensors format among them.
    """
    files = sorted(path for path in Path(directory).glob("*") if path.is_file() and path.suffix in _SUFFIXES)
    has_weights = any(path.suffix == ".safetensors" for path in files)
    if not has_weights or not any(path.name == "config.json" for path in files):
        missing = "safetensors weights" if not has_weights else "config.json"
        raise ArtifactError(f"No {missing} in {directory}; point to a checkpoint in transformers' format.")
    return files


def checkpoint_sha256(directory: Path) -> str:
    """One hash over the names and contents of ``checkpoint_files``; raises ``ArtifactError`` as that does."""
    hashes = [[path.name, sha256_of_file(path)] for path in checkpoint_files(directory)]
    return sha256_of(json.dumps(hashes).encode())


def tokenizer_sha256(directory: Path) -> str:
    """Hash over what turns text into tokens: the tokenizer's own files, and the chat template wherever it is kept.

    Raises:
        ArtifactError: If there is no tokenizer, or its configuration cannot be read.
    """
    directory = Path(directory)
    found = [directory / name for name in _TOKENIZERS if (directory / name).is_file()]
    if not found:
        raise ArtifactError(f"No tokenizer.json in {directory}; point to a checkpoint with its tokenizer's files.")
    # Old files beside a tokenizer.json are not what is read.
    files = found[:1] if found[0].name == "tokenizer.json" else found
    hashes = [[path.name, sha256_of_file(path)] for path in files]
    return sha256_of(json.dumps([*hashes, ["template", _chat_template(directory)]]).encode())


def _chat_template(directory: Path) -> object:
    try:
        alone = directory / "chat_template.jinja"
        if alone.is_file():
            return alone.read_text(encoding="utf-8")
        path = directory / "tokenizer_config.json"
        return json.loads(path.read_text(encoding="utf-8")).get("chat_template") if path.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"The chat template in {directory} cannot be read ({error}); restore the file.") from error


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy ``checkpoint_files`` into ``target``, replacing those it holds; a directory copied to itself is left alone.

    Raises:
        ArtifactError: If ``source`` is no checkpoint.
    """
    files = checkpoint_files(source)
    if Path(source).resolve() == Path(target).resolve():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.suffix in _SUFFIXES:
            path.unlink()
    for path in files:
        shutil.copyfile(path, target / path.name)
