"""The numbers that a model sees in place of vector observations: their symlog, standardised if `model.standardize` is on.

A decoder that is judged by squared errors of symlog (DreamerV3) hardly cares about a component whose whole range is a fraction
of 1, such as the distance to a target in metres, and the latents then leave it out. Standardised, every component counts the
same. The mean and the variance are those of all batches so far; they are part of the world model's parameters, under
"statistics", and are counted, not trained.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dreamerjax.core.types import ObservationSpec
from dreamerjax.ops.scalars import symexp, symlog

Specs = dict[str, ObservationSpec]
Params = Any

NARROWEST = 0.01  # standard deviation of a symlog below which a component is magnified no further
WIDEST = 10.0  # standard deviations at which what is seen is cut off


def initial_statistics(specs: Specs) -> Params:
    """Of no batch: count [], and of each vector mean [size] and variance [size]."""
    sizes = {name: spec.encoded_size for name, spec in specs.items() if spec.is_vector}
    return {
        "count": jnp.zeros(()),
        "mean": {name: jnp.zeros(size) for name, size in sizes.items()},
        "variance": {name: jnp.ones(size) for name, size in sizes.items()},
    }


def count_batch(statistics: Params, observations: dict[str, Any], axis_name: str | None = None) -> Params:
    """The statistics with one more batch [T, B, ...] counted; every batch weighs the same.

    With `axis_name`, inside pmap, the batch is that of all devices together.
    """

    def mean_of(values: jax.Array) -> jax.Array:
        mean = jnp.mean(values, axis=0)
        return mean if axis_name is None else jax.lax.pmean(mean, axis_name)

    share = 1.0 / (statistics["count"] + 1.0)
    means, variances = {}, {}
    for name, mean in statistics["mean"].items():
        values = symlog(observations[name]).reshape(-1, mean.shape[0])
        batch_mean = mean_of(values)
        batch_variance = mean_of(jnp.square(values - batch_mean[None]))
        off = batch_mean - mean
        means[name] = mean + share * off
        variances[name] = (1.0 - share) * (statistics["variance"][name] + share * jnp.square(off)) + share * batch_variance
    return {"count": statistics["count"] + 1.0, "mean": means, "variance": variances}


def _mean_and_std(params: Params, name: str, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each component, in the shape of `like` [..., size]."""
    statistics = jax.lax.stop_gradient(params["statistics"])
    std = jnp.maximum(jnp.sqrt(statistics["variance"][name]), NARROWEST)
    return jnp.broadcast_to(statistics["mean"][name], like.shape), jnp.broadcast_to(std, like.shape)


def model_units(specs: Specs, params: Params, observations: dict[str, Any]) -> dict[str, Any]:
    """Observations {name: [..., size]} with every vector in the model's units; images and discrete ones are passed on.

    `params` are the world model's, or those of them that act.
    """

    def converted(name: str, values: jax.Array) -> jax.Array:
        if "statistics" not in params:
            return symlog(values)
        mean, std = _mean_and_std(params, name, values)
        return jnp.clip((symlog(values) - mean) / std, -WIDEST, WIDEST)

    return {name: converted(name, values) if specs[name].is_vector else values for name, values in observations.items()}


def own_units(params: Params, name: str, values: jax.Array) -> jax.Array:
    """A decoded vector [..., size] back in the units of the environment: the inverse of `model_units`."""
    if "statistics" in params:
        mean, std = _mean_and_std(params, name, values)
        values = mean + std * values
    return symexp(values)
