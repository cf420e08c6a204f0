"""The model once more, in float64 NumPy and one step at a time, from the formulas of DreamerV3 (arXiv 2301.04104).

It reads the parameters of the Flax modules by name and shares nothing else with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def as_float64(tree: Any) -> Any:
    """Nested parameters, or an array, in float64."""
    if hasattr(tree, "items"):
        return {name: as_float64(value) for name, value in tree.items()}
    return np.asarray(tree, np.float64)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Array) -> Array:
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def symlog(x: Array) -> Array:
    return np.sign(x) * np.log(1.0 + np.abs(x))


def one_hot(index: Array, classes: int) -> Array:
    return np.eye(classes)[np.asarray(index, np.int64)]


def one_hots(index: Array, classes: tuple[int, ...]) -> Array:
    return np.concatenate([one_hot(index[..., i], count) for i, count in enumerate(classes)], axis=-1)


def linear(params: Any, x: Array) -> Array:
    product = x @ params["dense"]["kernel"]
    return product + params["dense"]["bias"] if "bias" in params["dense"] else product


def norm_silu(params: Any, x: Array) -> Array:
    """RMSNorm with epsilon 1e-4 inside the root, then x sigmoid(x)."""
    normed = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-4) * params["scale"]
    return normed * sigmoid(normed)


def mlp(params: Any, x: Array) -> Array:
    for index in range(len(params) // 2):
        x = norm_silu(params[f"norm{index}"], linear(params[f"linear{index}"], x))
    return x


def head(params: Any, x: Array) -> Array:
    return linear(params["out"], mlp(params["mlp"], x))


def unimix(logits: Array, ratio: float) -> Array:
    """Log-probabilities of (1 - ratio) softmax + ratio / K."""
    return np.log((1.0 - ratio) * softmax(logits) + ratio / logits.shape[-1])


def encode(params: Any, specs: Any, observations: dict[str, Array]) -> Array:
    """Keys in alphabetical order, symlog of vectors, one-hots of the rest, then an MLP."""
    parts = []
    for name in sorted(specs):
        values = observations[name]
        parts.append(one_hots(values, specs[name].classes) if specs[name].classes else symlog(values))
    return mlp(params["mlp"], np.concatenate(parts, axis=-1))


def gru(params: Any, blocks: int, deter: Array, stoch: Array, action: Array) -> Array:
    """h_t [B, D] from h_{t-1}, z_{t-1} [B, S, K] and the encoded a_{t-1} [B, A], block after block.

    Each block sees its own part of h and all three projected inputs; candidate, reset and update are blocks too.
    """
    scaled = action / np.maximum(1.0, np.abs(action))
    inputs = {"deter_in": deter, "stoch_in": stoch.reshape(len(stoch), -1), "action_in": scaled}
    hidden = [mlp(params[name]["mlp"], x) for name, x in inputs.items()]
    size = deter.shape[-1] // blocks
    slices = [slice(size * i, size * (i + 1)) for i in range(blocks)]
    mixed = []
    for i, columns in enumerate(slices):
        shares = [params[name]["out"]["dense"]["kernel"][:, columns] for name in inputs]
        weight = np.concatenate([params["block_in"]["kernel"][i], *shares])
        mixed.append(np.concatenate([deter[:, columns], *hidden], axis=-1) @ weight)
    layer = norm_silu(params["block_norm"], np.concatenate(mixed, axis=-1))
    result = np.empty_like(deter)
    for i, columns in enumerate(slices):
        reset, candidate, update = (
            layer[:, columns] @ params[f"block_gates_{gate}"]["kernel"][i] + params["gate_bias"][gate, columns]
            for gate in range(3)
        )
        share = sigmoid(update - 1.0)
        result[:, columns] = share * np.tanh(sigmoid(reset) * candidate) + (1.0 - share) * deter[:, columns]
    return result


def prior(params: Any, groups: int, ratio: float, deter: Array) -> Array:
    logits = linear(params["prior_out"], mlp(params["prior_mlp"], deter))
    return unimix(logits.reshape(*deter.shape[:-1], groups, -1), ratio)


def posterior(params: Any, groups: int, ratio: float, deter: Array, embedding: Array) -> Array:
    """The first layer reads h_t and the embedding side by side."""
    kernels = [params[name]["dense"]["kernel"] for name in ("posterior_deter", "posterior_embedding")]
    both = np.concatenate([deter, embedding], axis=-1) @ np.concatenate(kernels)
    hidden = norm_silu(params["posterior_norm"], both + params["posterior_deter"]["dense"]["bias"])
    logits = linear(params["posterior_out"], mlp(params.get("posterior_mlp", {}), hidden))
    return unimix(logits.reshape(*deter.shape[:-1], groups, -1), ratio)


def sample_one_hot(log_probs: Array, uniform: Array) -> Array:
    """The class in whose slice of the cumulative distribution the uniform number falls."""
    edges = np.cumsum(np.exp(log_probs), axis=-1)[..., :-1]
    return one_hot((uniform[..., None] >= edges).sum(axis=-1), log_probs.shape[-1])


def two_hot(y: Array, bins: Array) -> Array:
    """Weights on the two neighbouring bins, linear in the distance; the end bin outside."""
    y = np.clip(np.asarray(y, np.float64), bins[0], bins[-1])
    result = np.zeros((*y.shape, len(bins)))
    for index in np.ndindex(y.shape):
        lower = min(int(np.searchsorted(bins, y[index], side="right")) - 1, len(bins) - 2)
        upper_weight = (y[index] - bins[lower]) / (bins[lower + 1] - bins[lower])
        result[index][lower], result[index][lower + 1] = 1.0 - upper_weight, upper_weight
    return result


def two_hot_loss(logits: Array, y: Array, bins: Array) -> Array:
    return -(two_hot(y, bins) * np.log(softmax(logits))).sum(axis=-1)


def categorical_kl(p: Array, q: Array) -> Array:
    """KL(p || q) of log-probabilities [..., S, K], summed over the groups."""
    return (np.exp(p) * (p - q)).sum(axis=(-1, -2))
