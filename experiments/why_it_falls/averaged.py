"""Train with an average of the last fifty or so actors acting, in collection and evaluation; dreams are the actor's own."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import jax.numpy as jnp

from dreamerjax.cli import main
from dreamerjax.ops.normalize import ema_update
from dreamerjax.parallel import Learner
from dreamerjax.train import run

RATE = 0.02  # of the average towards the actor, per update; before that the plain mean of all actors so far

right_update = Learner.update


def averaging_update(learner: Any, *args: Any, **kwargs: Any) -> Any:
    """`Learner.update`, after which the average acts."""
    learner.made = getattr(learner, "made", 0) + 1
    before, result = learner.acting["actor"], right_update(learner, *args, **kwargs)
    average = ema_update(before, learner.acting["actor"], jnp.maximum(RATE, 1.0 / learner.made))
    learner.acting = learner.acting | {"actor": average}
    return result


if __name__ == "__main__":
    with mock.patch.object(Learner, "update", averaging_update):
        sys.exit(main(run))
