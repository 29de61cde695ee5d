"""A training loop that a kill does not undo: all of its state is on disk every minute, its budget is time spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import Average, Log

SAVE_SECONDS = 60


@dataclass(frozen=True)
class Budget:
    """How a stage trains: seconds in all, highest learning rate, steps of warm-up, decay of the averaged weights."""

    seconds: float
    rate: float
    warm_up: int = 50
    decay: float = 0.995


def train(
    file: Path,
    model: torch.nn.Module,
    budget: Budget,
    make_loss: Callable[[Any, Any, float], torch.Tensor],
    log: Log,
    check: Callable[[torch.nn.Module], str],
) -> Any:
    """Minimise `make_loss(model, its average, share of the time used)` with AdamW and a cosine rate; the averaged network.

    State lies in `file` (tensors alone); a second call goes on from there. `check` describes the average every 250 steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=budget.rate, betas=(0.9, 0.95), weight_decay=0.0)
    average, step, spent = Average(model, budget.decay), 0, 0.0
    if file.exists():
        state = torch.load(file, map_location=next(model.parameters()).device, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        torch.manual_seed(step)
        log(f"{file.stem}: goes on at step {step}")

    def save() -> None:
        state = {"model": model.state_dict(), "average": average.module.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step, "spent": spent}, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)

    saved, losses = time.monotonic(), []
    while spent < budget.seconds:
        start, share = time.monotonic(), spent / budget.seconds
        for group in optimizer.param_groups:
            group["lr"] = budget.rate * min(1.0, (step + 1) / budget.warm_up) * (0.51 + 0.49 * math.cos(math.pi * share))
        loss = make_loss(model, average.module, share)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        losses.append(loss.detach())
        step, spent = step + 1, spent + time.monotonic() - start
        if step % 50 == 0:
            log(f"{file.stem} step {step} ({share:.0%}): loss {torch.stack(losses[-50:]).mean().item():.4f}")
        if step % 250 == 0:
            log(f"{file.stem} step {step}: {check(average.module)}")
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
    save()
    log(f"{file.stem} done after {step} steps: {check(average.module)}")
    return average.module
