"""The question pool on disk: prompts with several responses, and the basis rewards of every response.

A directory of ``pool.json`` (what people read), ``pool.safetensors`` (``basis_rewards``, one row a response, in the
order of ``pool.json``) and ``manifest.json`` (hashes and the basis version). Needs no torch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from app.entities import Basis, CandidatePair, QuestionPool
from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.files import (
    parse_tensors,
    read_checked,
    read_manifest,
    sha256_of,
    write_manifest,
    write_tensors,
)

PROMPTS = "pool.json"
TENSORS = "pool.safetensors"
FORMAT = 1
_REMEDY = "build the pool again with 'attune pool build' or restore it from its source"


@dataclass(frozen=True)
class PoolPrompt:
    """One prompt of the pool with its responses; ``id`` is unique in the pool."""

    id: str
    topic: str
    prompt: str
    responses: tuple[str, ...]


def load_pool(directory: Path, basis: Basis) -> QuestionPool:
    """Read the pool in ``directory`` as all pairs of responses to one prompt.

    Pairs are numbered in the order of the file: prompt by prompt, (0, 1), (0, 2), … (1, 2), …; ``differences`` holds
    the basis rewards of the earlier response minus those of the later one.

    Raises:
        ArtifactError: If a file is missing, malformed or changed since it was written.
        ArtifactIncompatible: If the pool was scored on another basis or does not match its rewards in size.
    """
    directory = Path(directory)
    manifest = read_manifest(directory, FORMAT, _REMEDY)
    if manifest.get("basis_version") != basis.version:
        raise ArtifactIncompatible(
            f"The pool in {directory} was scored on basis {manifest.get('basis_version')}, but {basis.version} is "
            f"active; build the pool again with 'attune pool build'."
        )
    prompts = parse_prompts(read_checked(directory, PROMPTS, manifest, _REMEDY), directory / PROMPTS)
    content = read_checked(directory, TENSORS, manifest, _REMEDY)
    rewards = parse_tensors(directory / TENSORS, content, {"basis_rewards": (np.float64, 2)}, _REMEDY)["basis_rewards"]
    _check_shape(prompts, rewards, len(basis.axes))
    return build_pool(prompts, rewards, basis.version)


def save_pool(
    directory: Path,
    prompts: Sequence[PoolPrompt],
    basis_rewards: Float64[np.ndarray, "responses basis"],
    basis_version: str,
) -> None:
    """Write a pool; ``basis_rewards`` has one row a response, in the order of ``prompts``.

    Raises:
        ArtifactError: If a prompt is malformed or a reward is not finite.
        ArtifactIncompatible: If the number of rows is not the number of responses.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rewards = np.asarray(basis_rewards, np.float64)
    _check_shape(prompts, rewards, rewards.shape[-1])
    if not np.isfinite(rewards).all():
        raise ArtifactError("The pool's basis rewards are not all finite; check the basis that scored it.")
    text = json.dumps({"prompts": [asdict(prompt) for prompt in prompts]}, indent=1, ensure_ascii=False) + "\n"
    content = text.encode()
    parse_prompts(content, directory / PROMPTS)
    (directory / PROMPTS).write_bytes(content)
    tensors = write_tensors(directory / TENSORS, {"basis_rewards": rewards})
    files = {PROMPTS: sha256_of(content), TENSORS: tensors}
    write_manifest(directory, {"format": FORMAT, "basis_version": basis_version, "files": files})


def read_prompts(path: Path) -> tuple[PoolPrompt, ...]:
    """The prompts of a ``pool.json`` that may not have been scored yet; raises ``ArtifactError``."""
    try:
        return parse_prompts(Path(path).read_bytes(), Path(path))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); name a file with pool prompts.") from error


def parse_prompts(content: bytes, path: Path) -> tuple[PoolPrompt, ...]:
    """The prompts in the bytes of a ``pool.json``; ``path`` is named in messages.

    Raises:
        ArtifactError: If they are not JSON of that form, an id occurs twice, a text is blank, or a prompt has fewer
            than two different responses.
    """
    try:
        prompts = tuple(
            PoolPrompt(one["id"], one["topic"], one["prompt"], _texts(one["responses"]))
            for one in json.loads(content)["prompts"]
        )
        for prompt in prompts:
            _check_prompt(prompt)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a question pool ({error!r}); correct the file.") from error
    ids = [prompt.id for prompt in prompts]
    if not ids or len(set(ids)) != len(ids):
        raise ArtifactError(f"{path} must hold prompts with different ids, found {ids}; correct the file.")
    return prompts


def build_pool(
    prompts: Sequence[PoolPrompt], basis_rewards: Float64[np.ndarray, "responses basis"], basis_version: str
) -> QuestionPool:
    """All within-prompt pairs with the differences of their basis rewards, numbered as ``load_pool`` says."""
    pairs: list[CandidatePair] = []
    first_rows: list[int] = []
    second_rows: list[int] = []
    start = 0
    for prompt in prompts:
        for i, j in combinations(range(len(prompt.responses)), 2):
            texts = prompt.responses[i], prompt.responses[j]
            pairs.append(CandidatePair(len(pairs), prompt.topic, prompt.id, prompt.prompt, *texts))
            first_rows.append(start + i)
            second_rows.append(start + j)
        start += len(prompt.responses)
    return QuestionPool(basis_version, tuple(pairs), basis_rewards[first_rows] - basis_rewards[second_rows])


def _check_prompt(prompt: PoolPrompt) -> None:
    """Raise ``ValueError`` about the texts, or ``AttributeError`` where one is no text."""
    texts = (prompt.id, prompt.topic, prompt.prompt, *prompt.responses)
    if not all(text.strip() for text in texts):
        raise ValueError(f"prompt '{prompt.id}' has a blank text")
    if len(set(prompt.responses)) != len(prompt.responses) or len(prompt.responses) < 2:
        raise ValueError(f"prompt '{prompt.id}' needs two or more responses, all different")


def _check_shape(prompts: Sequence[PoolPrompt], rewards: np.ndarray, size: int) -> None:
    expected = (sum(len(prompt.responses) for prompt in prompts), size)
    if rewards.shape != expected:
        raise ArtifactIncompatible(f"The pool's basis rewards have shape {rewards.shape}, not {expected}; {_REMEDY}.")


def _texts(responses: object) -> tuple[str, ...]:
    if not isinstance(responses, list):
        raise TypeError("'responses' must be a list")
    return tuple(responses)
