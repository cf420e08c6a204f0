"""What the tests of several files share: variants with and without jit, random inputs, formulas in float64 NumPy."""

from __future__ import annotations

from functools import partial

import chex
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

with_and_without_jit = chex.variants(with_jit=True, without_jit=True)
float32s = partial(st.floats, width=32, allow_subnormal=False)
logit_arrays = hnp.arrays(np.float32, (3, 5), elements=float32s(-30, 30))


def random_logits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.0, size=shape).astype(np.float32)


def numpy_probs(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def numpy_symlog(x: np.ndarray | float) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return np.where(x >= 0, np.log(1 + np.abs(x)), -np.log(1 + np.abs(x)))


def numpy_symexp(x: np.ndarray | float) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return np.where(x >= 0, np.exp(np.abs(x)) - 1, 1 - np.exp(np.abs(x)))


def random_scalars(count: int, seed: int = 0) -> np.ndarray:
    return numpy_symexp(np.random.default_rng(seed).uniform(-22, 22, count)).astype(np.float32)
