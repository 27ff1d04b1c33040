"""A language model as the engine holds it: the network, and the one way that text becomes tokens.

Loads a checkpoint directory in transformers' format. Every prompt and every response, in training as in serving, is
tokenised by ``ChatTokenizer``. Knows no rewards and no sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from app.entities import Conversation
from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.network import LlamaNetwork
from app.rewards.weights import check_architecture, copy_network


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """The special tokens of a transformers tokenizer with their ids."""
    return {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def defused(text: str, marks: Sequence[str]) -> str:
    """``text`` with special tokens written out by a person broken up, so that they stay plain text; longest first."""
    for mark in marks:
        text = text.replace(mark, mark[0] + " " + mark[1:])
    return text


class ChatTokenizer:
    """Renders conversations by the checkpoint's chat template and turns tokens back into text.

    ``end_ids`` finish a response. ``banned_ids`` may not occur in one: the other special tokens, and the ids below
    ``vocabulary``, the network's number of outputs, that no token has.
    """

    def __init__(self, tokenizer: Any, end_ids: Sequence[int], vocabulary: int) -> None:
        self._tokenizer = tokenizer
        special = special_tokens(tokenizer)
        self._marks = sorted(special, key=len, reverse=True)
        self.end_ids = tuple(sorted(set(end_ids)))
        unusable = {*special.values(), *range(len(tokenizer), vocabulary)} - set(self.end_ids)
        self.banned_ids = tuple(sorted(number for number in unusable if number < vocabulary))

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """Token ids of the conversation up to and including the mark that opens the assistant's turn."""
        messages = [{"role": one.role, "content": self.defused(one.content)} for one in conversation]
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self._ids(text)

    def response_ids(self, text: str) -> list[int]:
        """Token ids of a response within its turn, without the end mark; surrounding blanks do not count."""
        return self._ids(self.defused(text.strip()))

    def text(self, ids: Sequence[int]) -> str:
        """The text of response tokens, exactly as generated."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def defused(self, text: str) -> str:
        """The text with its special tokens broken up, as it is read in prompts and responses."""
        return defused(text, self._marks)

    def _ids(self, text: str) -> list[int]:
        """Token ids of any number: whoever asks compares with the context, so no warning about it is due."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


@dataclass(frozen=True)
class LanguageModel:
    """The checkpoint in ``directory``, loaded."""

    network: LlamaNetwork
    tokenizer: ChatTokenizer
    device: torch.device
    directory: Path

    @property
    def context(self) -> int:
        """Tokens that prompt and response share."""
        return self.network.shape.context

    def tensor(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Rows of token ids (rows, longest), padded on the right with 0, on the model's device."""
        longest = max(len(row) for row in ids)
        return torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids], device=self.device)


def load_language_model(directory: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a Llama or Qwen2 checkpoint with its tokenizer and chat template.

    Args:
        directory: Holds ``config.json``, ``model.safetensors`` (or shards) and the tokenizer's files.
        device: Where the weights go, as torch names it.
        dtype: Precision of weights and states; float32 makes a candidate independent of how many are drawn.

    Raises:
        ArtifactError: If files are missing or unreadable.
        ArtifactIncompatible: If the architecture is not supported or the tokenizer has no chat template.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    remedy = "point to a checkpoint directory with config.json, model.safetensors and the tokenizer's files"
    if not (Path(directory) / "config.json").is_file():
        raise ArtifactError(f"No config.json in {directory}; {remedy}.")
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        check_architecture(config)
        model, report = AutoModelForCausalLM.from_pretrained(
            directory, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"The model in {directory} cannot be loaded ({error}); {remedy}.") from error
    if report["missing_keys"]:
        raise ArtifactError(f"The model in {directory} lacks {sorted(report['missing_keys'])[0]}; {remedy}.")
    if tokenizer.chat_template is None:
        raise ArtifactIncompatible(f"The tokenizer in {directory} has no chat template; use an instruction model.")
    network = copy_network(model.to(device).eval())
    ends = _end_ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)
    if not ends:
        raise ArtifactIncompatible(f"The tokenizer in {directory} names no end token; set eos_token.")
    chat = ChatTokenizer(tokenizer, ends, network.shape.vocabulary)
    return LanguageModel(network, chat, torch.device(device), Path(directory))


def _end_ids(generation: int | list[int] | None, tokenizer: int | None) -> list[int]:
    listed = generation if isinstance(generation, list) else [generation]
    return [one for one in (*listed, tokenizer) if one is not None]
