"""Surprise: how much worse the world model does on the newest batch than it has been doing (findings_of_the_log.md#01-17a)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

FLOOR = 1e-8  # keeps the logarithm of a loss of 0 finite
PREFIX = "wm/surprise"


@dataclass(frozen=True)
class SurpriseState:
    """Running averages of the losses, not yet corrected for their start at 0, by name."""

    averages: dict[str, float] = field(default_factory=dict)
    count: int = 0  # updates so far


def components(metrics: Mapping[str, float], images: frozenset[str] = frozenset()) -> dict[str, float]:
    """The losses of one update that surprise is measured on, from its metrics.

    `images` are the observations that count as `pixel`; the others are `state`. A component that the environment does not
    have is left out. The two KLs are the raw KL, which both have as their value: a threshold would hide it.
    """
    prefix = "model/decoder/"
    decoders = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    parts = {
        "reward": metrics["loss/reward"],
        "continue": metrics["loss/continue_"],
        "kl_dyn": metrics["model/kl"],
        "kl_rep": metrics["model/kl"],
    }
    for name, keys in (("pixel", decoders.keys() & images), ("state", decoders.keys() - images)):
        if keys:
            parts[name] = sum(decoders[key] for key in keys)
    return parts


def measure(state: SurpriseState, losses: Mapping[str, float], beta: float) -> tuple[SurpriseState, dict[str, float]]:
    """Take over one update's losses: the new state, and log(loss / average before it) by metric name.

    `losses` are not negative, by component, and `total`; `beta` in [0, 1) is of the running averages. `ready` is 0 until the
    averages have seen 1 / (1 - beta) updates; until then all ratios are 0.
    """
    ready = state.count >= 1.0 / (1.0 - beta)
    correction = 1.0 - beta**state.count
    metrics = {}
    for name, loss in losses.items():
        average = state.averages.get(name, 0.0) / correction if ready else 0.0
        metrics[f"{PREFIX}/{name}_log_ratio"] = math.log((loss + FLOOR) / (average + FLOOR)) if ready else 0.0
    parts = [value for key, value in metrics.items() if key != f"{PREFIX}/total_log_ratio"]
    metrics |= {f"{PREFIX}/ready": float(ready), f"{PREFIX}/max_component_log_ratio": max(parts)}
    averages = {name: beta * state.averages.get(name, 0.0) + (1.0 - beta) * loss for name, loss in losses.items()}
    return SurpriseState(averages, state.count + 1), metrics
