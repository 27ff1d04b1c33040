"""Writes a trained network as a plain checkpoint and measures what its card reports."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from app.training.language.corpus import Conversation
from app.training.language.network import Network, NetworkShape, to_llama_config, to_llama_state
from app.training.language.pretrain import LanguageTrainer, bits_per_byte
from app.training.language.tokenizer import encode_conversations, save_tokenizer


def export_checkpoint(run: Path, out: Path, shape: NetworkShape) -> None:
    """Write the newest state of the run in ``run`` as a checkpoint that transformers and vLLM load."""
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    network = Network(shape)
    network.load_state_dict(state["network"])
    out.mkdir(parents=True, exist_ok=True)
    save_file(to_llama_state(network), out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(to_llama_config(shape), indent=2) + "\n")
    generation = {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.95,
    }
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    save_tokenizer(Tokenizer.from_file(str(run / "tokenizer.json")), out, shape.context)


@dataclass(frozen=True)
class DomainScore:
    """Held-out fit on one domain."""

    domain: str
    conversations: int
    nats_per_token: float
    bits_per_byte: float


def score_domains(trainer: LanguageTrainer) -> list[DomainScore]:
    """Held-out loss and bits per byte by domain."""
    losses = trainer.held_out_loss()
    return [_score(trainer.tokenizer, trainer.held_out, domain, loss) for domain, loss in losses.items()]


def _score(tokenizer: Tokenizer, held_out: Sequence[Conversation], domain: str, loss: float) -> DomainScore:
    mine = [one for one in held_out if one.domain == domain]
    tokens = sum(len(ids) - 1 for ids in encode_conversations(tokenizer, mine))
    size = sum(len(text.encode()) for one in mine for _, text in one.turns)
    return DomainScore(domain, len(mine), loss, bits_per_byte(loss, tokens, size))


def repetition(texts: Sequence[str], order: int = 4) -> dict[str, float]:
    """How much generated texts repeat themselves.

    ``repeated``: share of word ``order``-grams that occurred before in the same text; ``loops``: share of
    texts in which some 4-gram occurs four times or more; ``distinct``: distinct texts among all.
    """
    repeated, total, loops = 0, 0, 0
    for text in texts:
        words = text.lower().split()
        grams = Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
        total += sum(grams.values())
        repeated += sum(grams.values()) - len(grams)
        loops += any(count >= 4 for count in grams.values())
    return {
        "repeated": repeated / max(1, total),
        "loops": loops / max(1, len(texts)),
        "distinct": len(set(texts)) / max(1, len(texts)),
    }


def write_facts(out: Path, trainer: LanguageTrainer, scores: Sequence[DomainScore]) -> None:
    """Store what was trained, on what and how well, beside the weights (``training.json``)."""
    facts = {
        "name": "attune-small",
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "tokens_seen": trainer.progress.seen,
        "steps": trainer.progress.step,
        "recipe": asdict(trainer.recipe),
        "shape": asdict(trainer.shape),
        "documents": dict(Counter(one.domain for one in trainer.training)),
        "characters": sum(len(text) for one in trainer.training for _, text in one.turns),
        "held_out": [asdict(score) for score in scores],
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
