"""Train with the fault of findings_of_the_log.md#01-15a: max(free nats, mean KL of the batch), without gradient below."""

from __future__ import annotations

import sys
from unittest import mock

import jax
import jax.numpy as jnp

from dreamerjax.config.cli import main
from dreamerjax.ops import distributions
from dreamerjax.train import run


def clip_of_mean(kl: jax.Array, free_nats: jax.Array, straight_through: bool) -> jax.Array:
    """`free_bits` with one threshold for the whole batch: the KL of all states, or the threshold for all."""
    return jnp.where(jnp.mean(kl) > free_nats, kl, jnp.broadcast_to(free_nats, kl.shape))


if __name__ == "__main__":
    with mock.patch.object(distributions, "free_bits", clip_of_mean):
        sys.exit(main(run))
