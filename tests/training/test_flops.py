"""Counted operations against those counted by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dreamerjax.training.flops import count_flops

ROWS, INNER, COLUMNS = 3, 5, 7
LEFT, RIGHT, SQUARE = jnp.ones((ROWS, INNER)), jnp.ones((INNER, COLUMNS)), jnp.ones((INNER, INNER))
STEP = 2 * ROWS * INNER * INNER  # of LEFT @ SQUARE


def scanned(length: int) -> float:
    """Operations of `length` products in a scan."""

    def chain(left: jax.Array, square: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (carry @ square, None), left, length=length)[0]

    return count_flops(chain, LEFT, SQUARE)


def test_matrix_product() -> None:
    assert count_flops(jnp.matmul, LEFT, RIGHT) == 2 * ROWS * INNER * COLUMNS


def test_a_scan_counts_as_often_as_it_runs() -> None:
    """Apart from the loop's own counter, an operation or two a step."""
    assert scanned(9) - scanned(4) == 5 * STEP
    assert 4 * STEP <= scanned(4) <= 4 * (STEP + 2)


def test_scans_in_scans_and_in_compiled_functions() -> None:
    @jax.jit
    def inner(left: jax.Array, square: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (carry @ square, None), left, length=4)[0]

    def outer(left: jax.Array, square: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (inner(carry, square), None), left, length=6)[0]

    total = count_flops(outer, LEFT, SQUARE)
    assert 24 * STEP <= total <= 24 * (STEP + 4)


def test_gradient_of_a_scan() -> None:
    """Backwards, each product becomes two."""

    def loss(left: jax.Array, square: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (carry @ square, None), left, length=8)[0].sum()

    products = count_flops(jax.grad(loss, argnums=(0, 1)), LEFT, SQUARE) / STEP
    assert 23 <= products <= 28
