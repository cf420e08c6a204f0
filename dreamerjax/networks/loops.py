"""How loops over time are compiled: the one place where the kind of processor decides. Results agree up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Loops:
    """The choices, one set for each backend: see `loops_for`."""

    unroll: int  # steps of a recurrence in one turn of its loop; 0: all of them, and no loop
    recompute: bool  # backwards, compute what is inside a step of a recurrence again; else keep it from the way forward
    heads_step_by_step: bool  # heads on one imagined step after another, recomputed backwards; else on all steps at once

    def scan(self, step: Callable[..., Any], start: Any, inputs: Any) -> Any:
        """`jax.lax.scan` of a recurrence over the leading axis of `inputs`."""
        repeated = jax.checkpoint(step, prevent_cse=False) if self.recompute else step
        return jax.lax.scan(repeated, start, inputs, unroll=self.unroll)

    def heads(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        """A function that takes any leading axes, of all steps [H, ...] in `inputs`."""
        return jax.lax.map(function, inputs) if self.heads_step_by_step else function(inputs)

    def differentiable_heads(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        """`heads` for a function whose gradient is wanted: step by step its outputs are computed again backwards."""
        return self.heads(jax.checkpoint(function) if self.heads_step_by_step else function, inputs)


# Writing some forty arrays a step to memory costs more than computing them again, and the wide outputs of heads stay in the
# processor's cache.
CPU = Loops(unroll=1, recompute=True, heads_step_by_step=True)
# Launches bound an update: four steps in a turn make one of size1m 1.5 times as fast as one, sixteen 1.6 times, and take
# twice as long to compile; heads on all steps at once 1.2 times (experiments/accelerator).
ACCELERATOR = Loops(unroll=4, recompute=False, heads_step_by_step=False)


def loops_for(backend: str) -> Loops:
    """What a JAX backend (`cpu`, `gpu`, `tpu`) compiles best."""
    return CPU if backend == "cpu" else ACCELERATOR
