"""How many processor threads offline work may take."""

import torch


def use_threads(count: int) -> None:
    """Let torch compute on ``count`` threads in this process."""
    torch.set_num_threads(count)
