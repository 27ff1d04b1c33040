"""L-BFGS that stops on relative tolerance, reports, and can be cut off and go on. Knows no model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from app.training.methods.checkpoint import load_checkpoint, save_checkpoint
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
    done, loss, settled = _resume(run, optimizer, parameters)

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
        values = [tensor.detach() for tensor in parameters]
        state = {"values": values, "done": done, "loss": loss, "settled": settled}
        save_checkpoint(run, {**state, "optimizer": optimizer.state_dict()})
    return loss


def _resume(run: Run, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> tuple[int, float, bool]:
    """Iterations done, loss, and whether it had settled."""
    state = load_checkpoint(run, parameters[0].device)
    if state is None:
        return 0, float("inf"), False
    with torch.no_grad():
        for tensor, value in zip(parameters, state["values"], strict=True):
            tensor.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"]), float(state["loss"]), bool(state["settled"])
