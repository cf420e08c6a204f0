"""The actor's output as a distribution over environment-facing actions: discrete components or a bounded normal."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from dreamerjax.networks.build import Networks
from dreamerjax.ops import distributions


def _components(networks: Networks, outputs: jax.Array) -> list[jax.Array]:
    """The actor's outputs [..., A] as unimixed log-probabilities, one array [..., size] per discrete component."""
    _assert_outputs(outputs, networks.spec.action.encoded_size)
    parts, offset = [], 0
    for size in networks.spec.action.sizes:
        parts.append(distributions.unimix_logits(outputs[..., offset : offset + size], networks.unimix))
        offset += size
    return parts


def _normal(networks: Networks, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    _assert_outputs(outputs, 2 * networks.spec.action.dimensions)
    mean, std = jnp.split(outputs, 2, axis=-1)
    return distributions.bounded_normal_params(mean, std, *networks.std_range)


def _assert_outputs(outputs: jax.Array, size: int) -> None:
    chex.assert_axis_dimension(outputs, -1, size, custom_message="the actor's outputs [..., O]")


def _assert_components(networks: Networks, array: jax.Array, outputs: jax.Array) -> None:
    chex.assert_shape(array, (*outputs.shape[:-1], *networks.spec.action.shape), custom_message="[..., C] of outputs [..., O]")


def noise_shape(networks: Networks) -> tuple[int, ...]:
    """Trailing shape of the uniforms that `sample` needs: one per discrete component or continuous dimension."""
    return networks.spec.action.shape


def sample(networks: Networks, outputs: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draw an action: actor outputs [..., O] and uniforms [..., C] to int32 components or floats [..., C]."""
    _assert_components(networks, uniform, outputs)
    if networks.spec.action.is_discrete:
        draws = [
            distributions.categorical_sample_from_uniform(uniform[..., i], jnp.exp(logits))
            for i, logits in enumerate(_components(networks, outputs))
        ]
        return jnp.stack(draws, axis=-1)
    mean, std = _normal(networks, outputs)
    margin = 1e-6  # keeps the inverse normal finite
    return mean + std * jax.scipy.stats.norm.ppf(jnp.clip(uniform, margin, 1.0 - margin))


def mode(networks: Networks, outputs: jax.Array) -> jax.Array:
    """The greedy action [..., C]."""
    if networks.spec.action.is_discrete:
        picks = [jnp.argmax(logits, axis=-1) for logits in _components(networks, outputs)]
        return jnp.stack(picks, axis=-1).astype(jnp.int32)
    return _normal(networks, outputs)[0]


def log_prob_and_entropy(networks: Networks, outputs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log pi(a) and H[pi], summed over components: outputs [..., O], action [..., C] -> two [...]."""
    _assert_components(networks, action, outputs)
    if networks.spec.action.is_discrete:
        parts = _components(networks, outputs)
        log_probs = [distributions.categorical_log_prob(part, action[..., i]) for i, part in enumerate(parts)]
        entropies = [distributions.categorical_entropy(part) for part in parts]
        return jnp.sum(jnp.stack(log_probs), axis=0), jnp.sum(jnp.stack(entropies), axis=0)
    mean, std = _normal(networks, outputs)
    return distributions.normal_log_prob(action, mean, std), distributions.normal_entropy(std)


def kl(networks: Networks, outputs: jax.Array, others: jax.Array) -> jax.Array:
    """KL(p || q) of the policies with outputs [..., O] and others [..., O], summed over components: [...]."""
    chex.assert_equal_shape([outputs, others], custom_message="outputs, others [..., O]")
    if networks.spec.action.is_discrete:
        pairs = zip(_components(networks, outputs), _components(networks, others), strict=True)
        return jnp.sum(jnp.stack([distributions.categorical_kl(p, q) for p, q in pairs]), axis=0)
    return distributions.normal_kl(_normal(networks, outputs), _normal(networks, others))


def entropy_bounds(networks: Networks) -> tuple[jax.Array, jax.Array]:
    """The smallest and the largest entropy that the policy can have, in nats: two []."""
    spec = networks.spec.action
    if not spec.is_discrete:
        low, high = (distributions.normal_entropy(jnp.full(spec.dimensions, std)) for std in networks.std_range)
        return low, high
    sharpest = [jnp.where(jnp.arange(size) == 0, 0.0, -jnp.inf) for size in spec.sizes]
    entropies = [distributions.categorical_entropy(distributions.unimix_logits(x, networks.unimix)) for x in sharpest]
    return jnp.sum(jnp.stack(entropies)), jnp.sum(jnp.log(jnp.array(spec.sizes, jnp.float32)))
