"""Every public function refuses arrays that do not fit together, by chex and before anything is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.ops import convolutions, distributions, normalization, returns, scalars
from tests.ops.references import with_and_without_jit

BINS = scalars.Bins.symexp(7)
STATE = normalization.return_scale_init()


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def integers(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int32)


def two_hot_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of arrays alone: the bins are static."""
    return lambda *arrays: function(*arrays, BINS)


def keyed_sample(logits: jax.Array) -> jax.Array:
    return distributions.categorical_sample(jax.random.key(0), logits)


def sample_with_two_keys(logits: jax.Array) -> jax.Array:
    return distributions.categorical_sample(jax.random.split(jax.random.key(0)), logits)


def replay_returns(*arrays: Any) -> Any:
    *trajectory, discount, lam = arrays
    return returns.replay_lambda_returns(*trajectory, discount=discount, lam=lam)


free_bits = partial(distributions.free_bits, straight_through=False)


def update_by_rates(rate: jax.Array) -> Any:
    return normalization.return_scale_update(STATE, jnp.zeros(3), rate=rate)


# name, function, arrays that do not fit, what the message says
REFUSED: list[tuple[str, Callable[..., Any], tuple[Any, ...], str]] = [
    ("symlog_of_integers", scalars.symlog, (integers(3),), "has type int32"),
    ("symexp_of_integers", scalars.symexp, (integers(3),), "has type int32"),
    ("two_hot_indices_of_integers", two_hot_function(scalars.two_hot_indices), (integers(3),), "has type int32"),
    ("two_hot_of_integers", two_hot_function(scalars.two_hot), (integers(3),), "has type int32"),
    ("two_hot_mean_bins", two_hot_function(scalars.two_hot_mean), (zeros(4, 6),), "one entry for each bin"),
    ("two_hot_mean_from_probs_bins", two_hot_function(scalars.two_hot_mean_from_probs), (zeros(7, 4),), "for each bin"),
    ("two_hot_loss_bins", two_hot_function(scalars.two_hot_loss), (zeros(4, 6), zeros(4)), "one entry for each bin"),
    ("two_hot_loss_targets", two_hot_function(scalars.two_hot_loss), (zeros(4, 7), zeros(4, 1)), "one y"),
    ("two_hot_loss_scalar", two_hot_function(scalars.two_hot_loss), (zeros(4, 7), zeros()), "one y"),
    ("shared_loss", two_hot_function(scalars.two_hot_loss_from_log_probs), (zeros(4, 7), zeros(5)), "one y"),
    ("unimix_scalar", distributions.unimix_logits, (zeros(), zeros()), "at least one"),
    ("unimix_ratios", distributions.unimix_logits, (zeros(4, 3), zeros(3)), "ratio is one number"),
    ("sample_scalar", keyed_sample, (zeros(),), "at least one"),
    ("sample_keys", sample_with_two_keys, (zeros(2, 3),), "one typed key"),
    ("sample_from_uniforms", distributions.categorical_sample_from_uniform, (zeros(4, 3), zeros(4, 3)), "one uniform"),
    ("straight_through", distributions.straight_through, (zeros(4, 3), zeros(4, 2)), "one_hot, probs"),
    ("entropy_scalar", distributions.categorical_entropy, (zeros(),), "at least one"),
    ("log_prob_indices", distributions.categorical_log_prob, (zeros(4, 3), integers(4, 1)), "one index"),
    ("log_prob_floats", distributions.categorical_log_prob, (zeros(4, 3), zeros(4)), "has type float32"),
    ("kl_shapes", distributions.categorical_kl, (zeros(4, 3), zeros(3)), "p_logits, q_logits"),
    ("latent_kl_without_groups", distributions.latent_kl, (zeros(3), zeros(3)), "S groups"),
    ("latent_kl_shapes", distributions.latent_kl, (zeros(5, 2, 3), zeros(5, 1, 3)), "p_logits, q_logits"),
    ("free_bits", free_bits, (zeros(4), zeros(4)), "free_nats is one number"),
    ("bounded_normal_shapes", distributions.bounded_normal_params, (zeros(4, 2), zeros(4, 1), 0.1, 1.0), "mean_raw, std_raw"),
    ("bounded_normal_bounds", distributions.bounded_normal_params, (zeros(4), zeros(4), zeros(4), 1.0), "low, high"),
    ("normal_log_prob", distributions.normal_log_prob, (zeros(4, 2), zeros(4, 2), zeros(2)), "x, mean, std"),
    ("normal_log_prob_scalar", distributions.normal_log_prob, (zeros(), zeros(), zeros()), "A dimensions"),
    ("normal_kl_shapes", distributions.normal_kl, ((zeros(2), zeros(2)), (zeros(2), zeros(1))), "means and stds"),
    ("normal_kl_scalars", distributions.normal_kl, ((zeros(), zeros()), (zeros(), zeros())), "A dimensions"),
    ("normal_entropy_scalar", distributions.normal_entropy, (zeros(),), "A dimensions"),
    ("returns", returns.lambda_returns, (zeros(6, 2), zeros(5, 2), zeros(6, 2), zeros(2), 0.9), "rewards, continues, values"),
    ("returns_bootstrap", returns.lambda_returns, (*[zeros(6, 2)] * 4, 0.9), "bootstrap"),
    ("returns_scalar", returns.lambda_returns, (*[zeros()] * 4, 0.9), "time leads"),
    ("returns_lambdas", returns.lambda_returns, (*[zeros(6, 2)] * 3, zeros(2), zeros(2)), "lam is one number"),
    ("replay_returns", replay_returns, (*[zeros(6, 2)] * 3, zeros(5, 2), 0.9, 0.9), "is_terminal, bootstrap"),
    ("replay_returns_scalar", replay_returns, (*[zeros()] * 4, 0.9, 0.9), "time leads"),
    ("replay_returns_discounts", replay_returns, (*[zeros(6, 2)] * 4, zeros(6, 2), 0.9), "discount, lam"),
    ("step_weights_scalar", returns.step_weights, (zeros(),), "time leads"),
    ("scale_update_state", normalization.return_scale_update, (STATE._replace(low=zeros(1)), zeros(3)), "of the state"),
    ("scale_update_rates", update_by_rates, (zeros(3),), "rate, percentile_low"),
    ("scale_update_integers", normalization.return_scale_update, (STATE, integers(3)), "has type int32"),
    ("scale_state", normalization.return_scale, (STATE._replace(high=zeros(2)),), "of the state"),
    ("scale_limits", normalization.return_scale, (STATE, zeros(2)), "limit is one number"),
    ("ema_shapes", normalization.ema_update, ({"bias": zeros(3)}, {"bias": zeros(1)}, 0.1), "old, new"),
    ("ema_rates", normalization.ema_update, ({"bias": zeros(3)}, {"bias": zeros(3)}, zeros(3)), "rate is one number"),
    ("halve_one_image", convolutions.halve, (zeros(8, 8, 3), zeros(5, 5, 3, 2)), "images"),
    ("halve_channels", convolutions.halve, (zeros(1, 8, 8, 3), zeros(5, 5, 2, 3)), "kernel"),
    ("halve_taps", convolutions.halve, (zeros(1, 8, 8, 3), zeros(3, 3, 3, 2)), "kernel"),
    ("halve_odd_height", convolutions.halve, (zeros(1, 7, 8, 3), zeros(5, 5, 3, 2)), "H is even"),
    ("double_one_image", convolutions.double, (zeros(4, 4, 3), zeros(5, 5, 3, 2)), "images"),
    ("double_channels", convolutions.double, (zeros(1, 4, 4, 3), zeros(5, 5, 2, 3)), "kernel"),
    ("fold_one_image", convolutions.fold, (zeros(8, 8, 3),), "images"),
    ("fold_odd_width", convolutions.fold, (zeros(1, 8, 7, 3),), "W is even"),
    ("unfold_one_image", convolutions.unfold, (zeros(8, 8, 4),), "images"),
    ("unfold_channels", convolutions.unfold, (zeros(1, 4, 4, 6),), "four numbers"),
]


class WrongShapesTest(chex.TestCase):
    """While tracing as well as without jit."""

    @with_and_without_jit
    @parameterized.named_parameters(*REFUSED)
    def test_what_does_not_fit_is_refused(self, function: Callable[..., Any], arrays: tuple[Any, ...], message: str) -> None:
        with pytest.raises(AssertionError, match=rf"\[Chex\].*{message}"):
            self.variant(function)(*arrays)


@pytest.mark.parametrize("module", [scalars, distributions, returns, normalization, convolutions])
def test_every_public_function_of_arrays_asserts_what_it_takes(module: ModuleType) -> None:
    without_arrays = {"symlog_bins", "symexp_bins", "return_scale_init"}
    delegating = {"two_hot": "two_hot_indices", "two_hot_mean": "two_hot_mean_from_probs", "two_hot_loss": "two_hot_loss_from"}
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ != module.__name__ or name.startswith("_") or name in without_arrays:
            continue
        assert delegating.get(name, "assert_") in inspect.getsource(function), name


def test_assertions_leave_nothing_in_the_compiled_program() -> None:
    logits, targets = zeros(4, 7), zeros(4)
    program = str(jax.make_jaxpr(two_hot_function(scalars.two_hot_loss))(logits, targets))
    chex.disable_asserts()
    try:
        unchecked = str(jax.make_jaxpr(two_hot_function(scalars.two_hot_loss))(logits, targets))
    finally:
        chex.enable_asserts()
    assert program == unchecked
