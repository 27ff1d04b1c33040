"""Fine-tunes the last layers of a trunk on comparisons, so that basis rewards become linear in its features.

Low-rank adapters (Hu et al., "LoRA", 2021) are trained jointly with a factorised reward and merged into a checkpoint of
its own; the heads that are served are learned afterwards, on the tuned trunk's features. Knows no calibration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from app.errors import InvalidInput
from app.rewards.trunk_transformers import TransformersTrunk, load_transformers_trunk, usual_device
from app.training.dataset import ComparisonData
from app.training.features import Progress, silent


@dataclass(frozen=True)
class LoraOptions:
    """How a trunk is tuned.

    ``rank`` is that of the adapters, in the last ``layers`` layers; ``directions`` is the number of directions along
    which people differ. ``shrinkage`` is the penalty on people's coefficients, in log-odds a comparison.
    """

    rank: int = 8
    layers: int = 4
    directions: int = 8
    epochs: int = 2
    batch: int = 16
    learning_rate: float = 3e-4
    shrinkage: float = 0.01


class FactorisedReward(nn.Module):
    """Margins of pairs from feature differences: what everybody prefers, and what each person adds to it.

    margin = (d_0 + sum_k c_uk d_k) . (features of first - features of second)

    Source:
        The low-rank reward of PReF (Shenfeld et al., 2025), eq. 3, with the population's direction apart.
    """

    def __init__(self, hidden: int, people: int, directions: int) -> None:
        """Start with random directions and nobody differing much."""
        super().__init__()
        self.population = nn.Parameter(torch.randn(hidden) / hidden)
        self.directions = nn.Parameter(torch.randn(directions, hidden) / hidden**0.5)
        self.coefficients = nn.Parameter(0.01 * torch.randn(people, directions))

    def forward(self, differences: Float[Tensor, "pairs hidden"], people: Tensor) -> Float[Tensor, " pairs"]:
        """Margins (pairs,) in log-odds."""
        heads = self.population + self.coefficients[people] @ self.directions
        margins: Tensor = (differences * heads).sum(dim=1)
        return margins

    def spread(self, people: Tensor) -> Tensor:
        """Mean squared coefficient of these people."""
        return (self.coefficients[people] ** 2).mean()


def tune_trunk(
    directory: Path,
    data: ComparisonData,
    out: Path,
    *,
    pooling: str | None = None,
    options: LoraOptions | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Tune the trunk in ``directory`` on ``data`` and write the merged checkpoint, with its tokenizer, to ``out``.

    Args:
        directory: A checkpoint as ``load_transformers_trunk`` takes it; it is not changed.
        data: Comparisons of training people only, all within the trunk's context.
        out: Directory of the tuned checkpoint, created if needed.
        pooling: As ``load_trunk``.
        options: Sizes and steps; None takes the defaults.
        seed: Seeds adapters, reward, dropout and the order of comparisons; the same seed gives the same checkpoint.
        device: As ``load_trunk``.
        progress: Called after every step.

    Returns:
        Mean loss of each epoch, in nats a comparison.

    Raises:
        InvalidInput: If there are no comparisons of different texts.
        PromptTooLong: If a row exceeds the context.
    """
    options = options or LoraOptions()
    data = data.take(data.first != data.second)
    if len(data) == 0:
        raise InvalidInput("There are no comparisons of two different texts to tune the trunk on; pass some.")
    device = device or usual_device()
    trunk = load_transformers_trunk(directory, pooling, device=device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk.model = _with_adapters(trunk.model, options)
        reward = FactorisedReward(trunk.hidden, len(data.names), options.directions).to(device)
        losses = _train(trunk, reward, data, options, np.random.default_rng(seed), progress)
    trunk.model.merge_and_unload().save_pretrained(out)
    _copy_tokenizer(directory, out)
    return losses


def _train(
    trunk: TransformersTrunk,
    reward: FactorisedReward,
    data: ComparisonData,
    options: LoraOptions,
    rng: np.random.Generator,
    progress: Progress,
) -> list[float]:
    scale = _scale(trunk, data, rng)
    trained = [one for one in trunk.model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(
        [
            {"params": trained, "lr": options.learning_rate},
            {"params": list(reward.parameters()), "lr": 30 * options.learning_rate},
        ],
        weight_decay=0.0,
    )
    trunk.model.train()
    losses, done, total = [], 0, options.epochs * len(data)
    for _ in range(options.epochs):
        sum_of_losses = 0.0
        for chosen in _batches(len(data), options.batch, rng):
            loss, penalty = _loss(trunk, reward, data, chosen, scale)
            optimiser.zero_grad()
            torch.autograd.backward(loss + options.shrinkage * penalty)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            sum_of_losses += float(loss.detach()) * len(chosen)
            done += len(chosen)
            progress(done, total)
        losses.append(sum_of_losses / len(data))
    trunk.model.eval()
    return losses


def _loss(
    trunk: TransformersTrunk,
    reward: FactorisedReward,
    data: ComparisonData,
    chosen: Int64[np.ndarray, " batch"],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Mean log-loss of a batch and the penalty on its people; both sides are read in one pass."""
    sides = np.concatenate([data.first[chosen], data.second[chosen]])
    features = trunk.pooled([trunk.fitting(data.rows[row]) for row in sides]) / scale
    first, second = features.chunk(2)
    people = torch.tensor(data.people[chosen], device=features.device)
    labels = torch.tensor(data.labels[chosen], dtype=features.dtype, device=features.device)
    return binary_cross_entropy_with_logits(reward(first - second, people), labels), reward.spread(people)


def _scale(trunk: TransformersTrunk, data: ComparisonData, rng: np.random.Generator) -> float:
    """Typical size of a feature difference's entry: the reward then starts in the range of log-odds."""
    chosen = rng.permutation(len(data))[:64]
    first, second = (trunk.features([data.rows[row] for row in side[chosen]]) for side in (data.first, data.second))
    return float(np.sqrt(np.mean((first - second) ** 2))) or 1.0


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Int64[np.ndarray, " batch"]]:
    order = rng.permutation(count)
    return (order[start : start + size] for start in range(0, count, size))


def _with_adapters(model: Any, options: LoraOptions) -> Any:
    """``model`` with trainable adapters at all projections of its last layers, and everything else frozen."""
    from peft import LoraConfig, LoraModel
    from transformers.pytorch_utils import Conv1D

    layers = max((one for one in model.modules() if isinstance(one, nn.ModuleList)), key=len)
    chosen = {id(module) for layer in list(layers)[-options.layers :] for module in layer.modules()}
    named = {name: one for name, one in model.named_modules() if id(one) in chosen}
    targets = [name for name, one in named.items() if isinstance(one, nn.Linear | Conv1D)]
    transposed = any(isinstance(one, Conv1D) for one in named.values())
    config = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=targets, fan_in_fan_out=transposed)
    return LoraModel(model, config, "default")


def _copy_tokenizer(source: Path, target: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(target)
