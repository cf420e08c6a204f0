"""Train with the fault of findings_of_the_log.md#01-02: R_t = r_{t+1} + c_{t+1} ((1 - lambda) v_t + lambda R_{t+1})."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from dreamerjax.agent import actor_critic
from dreamerjax.config.cli import main
from dreamerjax.ops import returns
from dreamerjax.train import run

right_targets, right_returns = actor_critic.dream_targets, returns.lambda_returns


def wrong_targets(networks: Any, model: Any, critic: Any, slow_critic: Any, dream: Any, *args: Any, **kwargs: Any) -> Any:
    """`dream_targets` with the value of each step's own state where the next state's belongs."""
    first = actor_critic.value(networks, critic, dream.features[0])

    def wrong_returns(rewards: jax.Array, continues: jax.Array, values: jax.Array, *rest: jax.Array) -> jax.Array:
        return right_returns(rewards, continues, jnp.concatenate([first[None], values[:-1]]), *rest)

    with mock.patch.object(returns, "lambda_returns", wrong_returns):
        return right_targets(networks, model, critic, slow_critic, dream, *args, **kwargs)


if __name__ == "__main__":
    with mock.patch.object(actor_critic, "dream_targets", wrong_targets):
        sys.exit(main(run))
