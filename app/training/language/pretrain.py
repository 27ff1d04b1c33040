"""Trains the bundled language model from scratch: seeded, resumable, in two stages.

Stage *broad* reads every domain in short rows at a constant learning rate; stage *chat* reads
conversations in long rows while the rate falls to zero (warm-up, stable, decay). Because the stable
stage has no end of its own, a run can be resumed with a larger budget whenever the machine is free.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from app.training.language.corpus import Conversation, read_conversations, split
from app.training.language.network import Network, NetworkShape
from app.training.language.packing import PackedRows, batches, pack
from app.training.language.readout import PropertyReadout
from app.training.language.tokenizer import encode_conversations, train_tokenizer

PROSE_DOMAINS = ("dolly_prose", "oasst_prose", "roleplay_prose", "ni_story", "ni_howto_prose")


@dataclass(frozen=True)
class Recipe:
    """What is trained and for how long; ``decay_share`` of the tokens are read in stage *chat*."""

    tokens: int = 30_000_000
    decay_share: float = 0.3
    broad_length: int = 256
    chat_length: int = 512
    batch_tokens: int = 8192
    matrix_rate: float = 4e-3
    vector_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    property_weight: float = 0.25
    seed: int = 17

    def scale(self, seen: int, step: int) -> float:
        """Learning-rate factor in [0, 1] after ``seen`` tokens."""
        left = (self.tokens - seen) / (self.decay_share * self.tokens)
        return min(1.0, (step + 1) / self.warmup_steps, max(0.02, left))

    def in_chat_stage(self, seen: int) -> bool:
        """Whether stage *chat* has begun after ``seen`` tokens."""
        return seen >= (1.0 - self.decay_share) * self.tokens


@dataclass
class Progress:
    """Where a run stands: ``batches`` read of the current one of ``passes``, and steps and tokens in all."""

    step: int = 0
    seen: int = 0
    passes: int = 0
    batches: int = 0
    chat: bool = False

    def begin_pass(self, chat: bool) -> None:
        """Turn to a new pass, of stage *chat* or *broad*."""
        self.passes, self.batches, self.chat = self.passes + 1, 0, chat


class LanguageTrainer:
    """Owns network, optimisers and progress of one run in ``directory``."""

    def __init__(
        self, directory: Path, data: Path, recipe: Recipe, shape: NetworkShape, *, compiled: bool = True
    ) -> None:
        """Read the data, then resume the run in ``directory`` or begin one; ``compiled`` uses torch.compile."""
        torch.manual_seed(recipe.seed)
        self.directory, self.recipe, self.shape = directory, recipe, shape
        directory.mkdir(parents=True, exist_ok=True)
        self.training, self.held_out = split(read_conversations(data))
        self.tokenizer = self._tokenizer()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = Network(shape).to(self.device)
        self.readout = PropertyReadout(shape.hidden, self.training).to(self.device)
        self.optimizers = self._optimizers()
        self.progress = Progress()
        self.losses = torch.compile(self.network.losses) if compiled else self.network.losses
        if (directory / "state.pt").exists():
            self._resume()

    def _tokenizer(self) -> Tokenizer:
        path = self.directory / "tokenizer.json"
        if not path.exists():
            texts = (text for one in self.training for _, text in one.turns)
            train_tokenizer(texts, self.shape.vocabulary).save(str(path))
        return Tokenizer.from_file(str(path))

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        matrices = [p for name, p in self.network.named_parameters() if p.ndim == 2 and "blocks" in name]
        others = [p for name, p in self.network.named_parameters() if p.ndim != 2 or "blocks" not in name]
        others += self.readout.parameters()
        recipe = self.recipe
        return [
            torch.optim.Muon(
                matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=recipe.vector_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]

    def run(self) -> None:
        """Train until the recipe's tokens are seen; checkpoints every few minutes and at the end."""
        recipe, progress = self.recipe, self.progress
        bar = tqdm(total=recipe.tokens, initial=progress.seen, unit="tok", unit_scale=True, mininterval=15)
        saved = time.monotonic()
        running = 0.0
        while progress.seen < recipe.tokens:
            chat = recipe.in_chat_stage(progress.seen)
            if chat != progress.chat:
                progress.begin_pass(chat)
            for rows in islice(self._pass(chat), progress.batches, None):
                loss = self._step(rows, chat)
                running = 0.97 * running + 0.03 * loss if running else loss
                bar.update(rows.tokens[:, 1:].size)
                bar.set_postfix(loss=f"{running:.3f}", step=progress.step, stage="chat" if chat else "broad")
                if time.monotonic() - saved > 240:
                    self.save()
                    self._log(running)
                    saved = time.monotonic()
                if progress.seen >= recipe.tokens or recipe.in_chat_stage(progress.seen) != chat:
                    break
            else:
                progress.begin_pass(chat)
        self.save()
        self._log(running)

    def _pass(self, chat: bool) -> Iterator[PackedRows]:
        rng = np.random.default_rng([self.recipe.seed, self.progress.passes])
        chosen = [one for one in self.training if _keep(one, chat, rng)]
        length = self.recipe.chat_length if chat else self.recipe.broad_length
        rows = pack(encode_conversations(self.tokenizer, chosen), length, rng)
        self.readout.aim_at(chosen)
        return batches(rows, self.recipe.batch_tokens // length)

    def _step(self, rows: PackedRows, chat: bool) -> float:
        progress = self.progress
        factor = self.recipe.scale(progress.seen, progress.step)
        for optimizer, rate in zip(self.optimizers, (self.recipe.matrix_rate, self.recipe.vector_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        loss, states = self._forward(rows)
        total = loss + self.recipe.property_weight * self.readout.loss(states, rows) if chat else loss
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.batches += 1
        progress.seen += rows.tokens[:, 1:].size
        return float(loss.detach())

    def _forward(self, rows: PackedRows) -> tuple[Tensor, Tensor]:
        tokens = torch.from_numpy(rows.tokens.astype(np.int64)).to(self.device)
        segments = torch.from_numpy(rows.segments.astype(np.int64)).to(self.device)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            loss, states = self.losses(tokens, segments)
        return loss, states

    @torch.no_grad()
    def held_out_loss(self) -> dict[str, float]:
        """Nats a token on held-out conversations, by domain."""
        result = {}
        for domain in sorted({one.domain for one in self.held_out}):
            documents = encode_conversations(self.tokenizer, [one for one in self.held_out if one.domain == domain])
            rows = pack(documents, self.recipe.broad_length, np.random.default_rng(0))
            size = min(8, len(rows))
            losses = [float(self._forward(batch)[0]) for batch in batches(rows, size)]
            result[domain] = sum(losses) / len(losses)
        return result

    def _log(self, running: float) -> None:
        line = {"tokens": self.progress.seen, "step": self.progress.step, "loss": round(running, 4)}
        with (self.directory / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state = {
            "network": self.network.state_dict(),
            "readout": self.readout.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
        }
        part = self.directory / "state.pt.part"
        torch.save(state, part)
        os.replace(part, self.directory / "state.pt")

    def _resume(self) -> None:
        state = torch.load(self.directory / "state.pt", map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.readout.load_state_dict(state["readout"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])


def _keep(one: Conversation, chat: bool, rng: np.random.Generator) -> bool:
    if chat:
        return one.domain not in PROSE_DOMAINS and (one.domain != "sgd" or rng.random() < 0.1)
    return True


def bits_per_byte(nats_per_token: float, tokens: int, size: int) -> float:
    """Convert a mean token loss into bits per byte of the same text."""
    return nats_per_token * tokens / (math.log(2) * size)
