"""The numbers that a model sees in place of vector observations: their symlog, standardised if `model.standardize` is on.

A decoder that is judged by squared errors of symlog (DreamerV3) hardly cares about a component whose whole range is a fraction
of 1, such as the distance to a target in metres, and the latents then leave it out. Standardised, every component counts the
same. The mean and the variance are those of all batches so far: they are counted, not trained, and lie beside the parameters.
Without standardisation there are no statistics: an empty dict.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from dreamerjax.core.types import ObservationSpec
from dreamerjax.ops.scalars import symexp, symlog

Specs = dict[str, ObservationSpec]
Statistics = dict[str, Any]

NARROWEST = 0.01  # standard deviation of a symlog below which a component is magnified no further
WIDEST = 10.0  # standard deviations at which what is seen is cut off


def initial_statistics(specs: Specs) -> Statistics:
    """Of no batch: count [], and of each vector mean [size] and variance [size]."""
    sizes = {name: spec.encoded_size for name, spec in specs.items() if spec.is_vector}
    return {
        "count": jnp.zeros(()),
        "mean": {name: jnp.zeros(size) for name, size in sizes.items()},
        "variance": {name: jnp.ones(size) for name, size in sizes.items()},
    }


def count_batch(statistics: Statistics, observations: dict[str, Any], axis_name: str | None = None) -> Statistics:
    """The statistics with one more batch [T, B, ...] counted; every batch weighs the same. None stay none.

    With `axis_name`, inside pmap, the batch is that of all devices together.
    """
    if not statistics:
        return statistics

    def mean_of(values: jax.Array) -> jax.Array:
        mean = jnp.mean(values, axis=0)
        return mean if axis_name is None else jax.lax.pmean(mean, axis_name)

    share = 1.0 / (statistics["count"] + 1.0)
    means, variances = {}, {}
    for name, mean in statistics["mean"].items():
        _assert_components(observations[name], mean.shape[0])
        values = symlog(observations[name]).reshape(-1, mean.shape[0])
        batch_mean = mean_of(values)
        batch_variance = mean_of(jnp.square(values - batch_mean[None]))
        off = batch_mean - mean
        means[name] = mean + share * off
        variances[name] = (1.0 - share) * (statistics["variance"][name] + share * jnp.square(off)) + share * batch_variance
    return {"count": statistics["count"] + 1.0, "mean": means, "variance": variances}


def _assert_components(values: jax.Array, size: int) -> None:
    chex.assert_axis_dimension(values, -1, size, custom_message="components of the vector: [..., size]")


def _mean_and_std(statistics: Statistics, name: str, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each component, in the shape of `like` [..., size]."""
    std = jnp.maximum(jnp.sqrt(statistics["variance"][name]), NARROWEST)
    return jnp.broadcast_to(statistics["mean"][name], like.shape), jnp.broadcast_to(std, like.shape)


def model_units(specs: Specs, statistics: Statistics, observations: dict[str, Any]) -> dict[str, Any]:
    """Observations {name: [..., size]} with every vector in the model's units; images and discrete ones are passed on."""

    def converted(name: str, values: jax.Array) -> jax.Array:
        _assert_components(values, specs[name].encoded_size)
        if not statistics:
            return symlog(values)
        mean, std = _mean_and_std(statistics, name, values)
        return jnp.clip((symlog(values) - mean) / std, -WIDEST, WIDEST)

    return {name: converted(name, values) if specs[name].is_vector else values for name, values in observations.items()}


def own_units(statistics: Statistics, name: str, values: jax.Array) -> jax.Array:
    """A decoded vector [..., size] back in the units of the environment: the inverse of `model_units`."""
    if statistics:
        _assert_components(values, statistics["mean"][name].shape[0])
        mean, std = _mean_and_std(statistics, name, values)
        values = mean + std * values
    return symexp(values)
