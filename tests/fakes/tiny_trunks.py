"""Random BERT, GPT-2 and headless Qwen2 checkpoints of a few thousand weights, for trunks."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.fakes.tiny_model import write_tiny_model

HIDDEN = 16
CONTEXT = 128
_SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]


def write_tiny_trunk(directory: Path, kind: str) -> Path:
    """Write a random checkpoint of ``kind`` ("bert", "gpt2" or "qwen2"); returns ``directory``."""
    if kind == "qwen2":
        return write_tiny_model(directory, "qwen2")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    sizes = {"vocab_size": len(_SPECIAL) + len(alphabet), "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if kind == "bert":
            model = BertModel(
                BertConfig(
                    hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                    max_position_embeddings=CONTEXT, initializer_range=0.3, **sizes,
                )
            )  # fmt: skip
        else:
            model = GPT2LMHeadModel(
                GPT2Config(
                    n_embd=HIDDEN, n_layer=2, n_head=2, n_positions=CONTEXT, initializer_range=0.3,
                    bos_token_id=1, eos_token_id=2, **sizes,
                )
            )  # fmt: skip
    model.save_pretrained(directory)
    _write_tokenizer(directory, alphabet, segments=kind == "bert")
    return directory


def _write_tokenizer(directory: Path, alphabet: list[str], *, segments: bool) -> None:
    tokens = {token: number for number, token in enumerate([*_SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(tokens, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if segments:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        padding_side="left", model_max_length=CONTEXT,
    ).save_pretrained(directory)  # fmt: skip
