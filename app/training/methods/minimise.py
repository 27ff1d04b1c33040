"""L-BFGS that stops on relative tolerance, reports, and can be cut off and go on. Knows no model."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.errors import InvalidInput
from app.training.methods.data import QUIET, Run

Objective = Callable[[], Tensor]


def minimise(
    objective: Objective,
    parameters: Sequence[Tensor],
    *,
    iterations: int,
    tolerance: float = 1e-5,
    run: Run = QUIET,
) -> float:
    """Minimise in place; returns the last loss.

    Args:
        objective: Loss of the current parameters.
        parameters: Leaf tensors that require gradients.
        iterations: At most this many L-BFGS iterations.
        tolerance: Stops when ``run.every`` iterations lower the loss by less than this share.
        run: Progress and checkpoint; from a checkpoint of the same fit it goes on, and leaves it in place.

    Raises:
        InvalidInput: If the checkpoint belongs to another fit.
    """
    optimizer = torch.optim.LBFGS(
        list(parameters),
        max_iter=run.every,
        max_eval=2 * run.every,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )
    start = [tensor.detach().clone() for tensor in parameters]
    done, loss, settled = _resume(run.checkpoint, optimizer, parameters)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    while done < iterations and not settled:
        before = float(optimizer.step(closure))  # type: ignore[no-untyped-call]
        with torch.no_grad():
            loss = float(objective())
        done += run.every
        if run.progress:
            run.progress(done, loss)
        settled = before - loss <= tolerance * abs(before)
        state = {"start": start, "values": parameters, "done": done, "loss": loss, "settled": settled}
        _save(run.checkpoint, optimizer, state)
    return loss


def _save(path: Path | None, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    if path is None:
        return
    partial = path.with_name(f"{path.name}.partial")
    values = [tensor.detach() for tensor in state["values"]]
    torch.save({**state, "values": values, "optimizer": optimizer.state_dict()}, partial)
    os.replace(partial, path)


def _resume(
    path: Path | None, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> tuple[int, float, bool]:
    """Iterations done, loss, and whether it had settled.

    The start that the checkpoint remembers must be the one that data and options gave just now.
    """
    if path is None or not path.is_file():
        return 0, float("inf"), False
    state = torch.load(path, weights_only=True, map_location=parameters[0].device)
    if len(parameters) != len(state["start"]) or not all(map(_same, parameters, state["start"])):
        raise InvalidInput(f"{path} is a checkpoint of another fit; delete it, or use the same data and options.")
    with torch.no_grad():
        for tensor, value in zip(parameters, state["values"], strict=True):
            tensor.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"]), float(state["loss"]), bool(state["settled"])


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.detach(), other, rtol=1e-3, atol=1e-4)
