"""A random language model of a few thousand weights with a byte-level tokenizer, and a basis for it."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from app.entities import Axis
from app.preferences.answers import ResponseModel
from app.preferences.certainty import CertaintyCurve
from app.preferences.gaussian import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.rewards.artifact import BasisArtifact, save_basis
from app.rewards.pool import PoolPrompt, save_pool

SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
CONTEXT = 256
TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_tiny_model(
    directory: Path, architecture: Literal["llama", "qwen2"] = "llama", seed: int = 5, **other_sizes: int
) -> Path:
    """Write a checkpoint that generates random printable text, of other sizes if asked; returns ``directory``."""
    sizes = {
        "vocab_size": len(SPECIAL) + 256,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        **other_sizes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (
            LlamaForCausalLM(LlamaConfig(**sizes))
            if architecture == "llama"
            else Qwen2ForCausalLM(Qwen2Config(**sizes))
        )
        for parameter in model.parameters():
            spread = 0.25 if parameter.ndim == 2 else 0.1
            parameter.data = torch.randn_like(parameter) * spread + (parameter.ndim == 1) * parameter.data
        model.lm_head.weight.data = 3 * model.lm_head.weight.data * _printable()[:, None]
    model.save_pretrained(directory)
    _write_tokenizer(directory)
    return directory


def write_tiny_basis(
    directory: Path,
    model_directory: Path,
    size: int = 3,
    seed: int = 5,
    *,
    hidden: int = 32,
    pooling: str = "response_mean",
    trunk: Path | None = None,
) -> BasisArtifact:
    """Write a basis of ``size`` random heads for the tiny model, or for a ``trunk`` with ``hidden`` features."""
    rng = np.random.default_rng(seed)
    return save_basis(
        directory,
        model_name="tiny",
        model_directory=model_directory,
        heads=rng.standard_normal((size, hidden)).astype(np.float32),
        offset=rng.standard_normal(size).astype(np.float32),
        prior=GaussianPrior(Posterior(rng.standard_normal(size), np.diag(np.arange(1.0, size + 1)))),
        reference=rng.standard_normal((5, size)),
        axes=[Axis(index, f"axis {index}", "more", "less") for index in range(size)],
        response=ResponseModel(exponent=0.9),
        certainty_curve=CertaintyCurve(np.array([0.0, 0.9]), np.array([0.0, 1.0])),
        candidate_sets=rng.standard_normal((2, 4, size)),
        provenance={"made": "for tests"},
        pooling=pooling,
        trunk=trunk,
    )


def tiny_settings(directory: Path) -> dict[str, str]:
    """Write a model, a basis and a pool made for each other; returns the variables of a service that uses them."""
    model, basis, pool = directory / "model", directory / "basis", directory / "pool"
    version = write_tiny_basis(basis, write_tiny_model(model)).basis.version
    prompts = [PoolPrompt(f"prompt-{i}", "home", f"Question {i}?", ("Yes.", "No.", "Perhaps.")) for i in range(4)]
    save_pool(pool, prompts, np.random.default_rng(1).standard_normal((12, 3)), version)
    settings = {"BACKEND": "transformers", "MODEL": str(model), "BASIS": str(basis), "POOL": str(pool)}
    return {f"ATTUNE_ENGINE__{name}": value for name, value in settings.items()}


def _tokens() -> list[str]:
    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]


def _printable() -> torch.Tensor:
    """1 for the end token and printable ASCII, 0 for other tokens, which then fall out of the nucleus."""
    return torch.tensor([token == "<|end|>" or (len(token) == 1 and "!" <= token <= "~") for token in _tokens()])


def _write_tokenizer(directory: Path) -> None:
    tokens = _tokens()
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIAL[3:],
        model_max_length=CONTEXT,
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(directory)
