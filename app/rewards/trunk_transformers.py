"""Any causal model or encoder of transformers as a trunk, and the choice between it and attune's own forward pass.

Loads checkpoint directories, never from the network. Knows no rewards.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from safetensors import SafetensorError
from torch import Tensor

from app.entities import Conversation
from app.errors import ArtifactError, ArtifactIncompatible, PromptTooLong
from app.rewards.artifact import BasisArtifact, check_trunk
from app.rewards.checkpoint import checkpoint_files, checkpoint_sha256
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.scorer import LanguageModelTrunk
from app.rewards.trunk import POOLINGS, RESPONSE_MEAN, Row, Trunk, proceed
from app.rewards.trunk_text import EncodedRow, RowTokenizer
from app.rewards.weights import SUPPORTED

_CAUSAL_POOLINGS = (RESPONSE_MEAN, "last_token")
_ENCODER_POOLINGS = (RESPONSE_MEAN, "mean", "first_token")
_ENDLESS = 10**9


def usual_device() -> str:
    """The first GPU where there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_trunk(directory: Path, pooling: str | None = None, *, device: str | None = None) -> Trunk:
    """Load the checkpoint in ``directory`` as a trunk.

    Args:
        directory: A checkpoint with its tokenizer. Chat models of an architecture that attune decodes itself use the
            same forward pass here; any other is run by transformers.
        pooling: One of ``POOLINGS``; None takes the response's mean, for encoders the mean over all tokens.
        device: Where it runs, as torch names it; None takes ``usual_device``.

    Raises:
        ArtifactError: If files are missing or unreadable.
        ArtifactIncompatible: If the model cannot pool as asked or is neither causal nor an encoder.
    """
    device = device or usual_device()
    if pooling in {None, RESPONSE_MEAN} and _generates(directory):
        with suppress(ArtifactIncompatible):
            return LanguageModelTrunk(load_language_model(directory, device=device))
    return load_transformers_trunk(directory, pooling, device=device)


def trunk_of(artifact: BasisArtifact, model: LanguageModel) -> Trunk:
    """What computes the features of a basis: ``model``, or the trunk in the artifact, on the same device.

    Raises:
        ArtifactError: If the artifact's trunk is missing or has changed.
        ArtifactIncompatible: If it has another number of features than the basis reads.
    """
    if artifact.trunk is None:
        trunk: Trunk = LanguageModelTrunk(model)
    else:
        check_trunk(artifact)
        trunk = load_trunk(artifact.trunk, artifact.pooling, device=str(model.device))
    if trunk.hidden != artifact.heads.shape[1]:
        raise ArtifactIncompatible(
            f"Basis {artifact.basis.version} reads {artifact.heads.shape[1]} hidden values, its trunk has "
            f"{trunk.hidden}; use the model that the basis was made for."
        )
    return trunk


def load_transformers_trunk(directory: Path, pooling: str | None = None, *, device: str = "cpu") -> "TransformersTrunk":
    """Load the checkpoint in ``directory`` to be run by transformers; arguments and errors as ``load_trunk``."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = _configuration(directory)
    if config.is_encoder_decoder:
        raise ArtifactIncompatible(f"The model in {directory} is an encoder-decoder; use a causal model or an encoder.")
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    possible = _ENCODER_POOLINGS if encoder else _CAUSAL_POOLINGS
    pooling = pooling or ("mean" if encoder else RESPONSE_MEAN)
    if pooling not in possible:
        kind = "an encoder" if encoder else "a causal model"
        raise ArtifactIncompatible(f"Pooling {pooling!r} is not for {kind}; use one of {', '.join(possible)}.")
    try:
        model, report = AutoModel.from_pretrained(
            directory, config=config, dtype=torch.float32, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"The trunk in {directory} cannot be loaded ({error}); restore the checkpoint.") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ArtifactError(f"The trunk in {directory} lacks {missing[0]}; restore the checkpoint.")
    rows = RowTokenizer(tokenizer, encoder=encoder)
    return TransformersTrunk(model.to(device).eval(), rows, pooling, directory, _context(model, tokenizer))


class TransformersTrunk:
    """A network of transformers without its output layer. Not thread-safe: one thread owns it."""

    def __init__(self, model: Any, tokenize: RowTokenizer, pooling: str, directory: Path, context: int) -> None:
        """Use ``model`` (an ``AutoModel``, on its device), whose states become features by ``pooling``."""
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; use one of {', '.join(POOLINGS)}.")
        self.model, self.tokenize = model, tokenize
        self.pooling, self.context = pooling, context
        self._directory = directory

    @cached_property
    def fingerprint(self) -> str:
        """Hash over the checkpoint, computed at the first look."""
        return checkpoint_sha256(self._directory)

    @property
    def hidden(self) -> int:
        """Number of features of a text."""
        return int(self.model.config.hidden_size)

    def token_counts(self, rows: Sequence[Row]) -> Int64[np.ndarray, " rows"]:
        """Tokens of each row, with the marks that the tokenizer adds."""
        return np.array([len(self.tokenize(row).ids) for row in rows], dtype=np.int64)

    def prompt_count(self, conversation: Conversation) -> int:
        """Tokens of a row of this conversation besides those of its response."""
        return self.tokenize.prompt_count(conversation)

    @torch.inference_mode()
    def features(
        self,
        rows: Sequence[Row],
        *,
        check: Callable[[], None] = proceed,
        truncate: bool = False,
        batch_tokens: int = 8192,
    ) -> Float32[np.ndarray, "rows hidden"]:
        """Pooled hidden states of each row; see ``trunk.Trunk``. ``batch_tokens`` bounds a forward pass, padded.

        Raises:
            PromptTooLong: If a row exceeds the context, or a conversation alone; nothing is computed then.
        """
        encoded = [self.fitting(row, truncate=truncate) for row in rows]
        features = np.zeros((len(rows), self.hidden), np.float32)
        for batch in _by_length(encoded, batch_tokens):
            check()
            features[batch] = self.pooled([encoded[number] for number in batch]).float().cpu().numpy()
        return features

    def pooled(self, rows: Sequence[EncodedRow]) -> Float[Tensor, "rows hidden"]:
        """Features of one batch, padded on the right; gradients flow where they are enabled."""
        longest = max(len(row.ids) for row in rows)
        device, filler = self.model.device, getattr(self.model.config, "pad_token_id", None) or 0
        ids = torch.tensor([_padded(row.ids, longest, filler) for row in rows], device=device)
        mask = torch.tensor([_padded([1] * len(row.ids), longest, 0) for row in rows], device=device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            segments = [_padded(row.segments or [0] * len(row.ids), longest, 0) for row in rows]
            inputs["token_type_ids"] = torch.tensor(segments, device=device)
        states = self.model(**inputs).last_hidden_state
        starts, ends = torch.tensor([row.span(self.pooling) for row in rows], device=device).T
        places = torch.arange(longest, device=device)
        kept = (places >= starts[:, None]) & (places < ends[:, None])
        pooled: Tensor = (states * kept[:, :, None]).sum(dim=1) / (ends - starts)[:, None]
        return pooled

    def fitting(self, row: Row, *, truncate: bool = False) -> EncodedRow:
        """The row as tokens, its response truncated if asked; raises ``PromptTooLong`` if they exceed the context."""
        encoded = self.tokenize(row).within(self.context) if truncate else self.tokenize(row)
        if len(encoded.ids) > self.context:
            response = encoded.end - encoded.start
            raise PromptTooLong(len(encoded.ids) - response, response, self.context)
        return encoded


def _generates(directory: Path) -> bool:
    """Whether the checkpoint is of an architecture that attune decodes, with its output layer."""
    config = _configuration(directory)
    return config.model_type in SUPPORTED and any(name.endswith("ForCausalLM") for name in config.architectures or ())


def _configuration(directory: Path) -> Any:
    from transformers import AutoConfig

    checkpoint_files(directory)
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"The trunk in {directory} cannot be loaded ({error}); restore the checkpoint.") from error


def _context(model: Any, tokenizer: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    sizes = (positions and positions - _unused_positions(model), tokenizer.model_max_length)
    return min((int(size) for size in sizes if size is not None and 0 < size < _ENDLESS), default=_ENDLESS)


def _unused_positions(model: Any) -> int:
    """How many positions no token ever has: RoBERTa and its relatives start at the padding index + 1."""
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padding = [index for table in tables if (index := getattr(table, "padding_idx", None)) is not None]
    return max(padding, default=-1) + 1


def _padded(values: list[int], length: int, filler: int) -> list[int]:
    return values + [filler] * (length - len(values))


def _by_length(rows: Sequence[EncodedRow], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of rows of similar length, in groups of at most ``batch_tokens`` when padded; the same in any order."""
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: (len(rows[number].ids), rows[number].ids)):
        if batch and (len(batch) + 1) * len(rows[number].ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
