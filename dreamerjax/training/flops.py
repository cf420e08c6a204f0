"""Floating-point operations of a function, by XLA's cost analysis, with loops counted as often as they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Operations of one call. XLA counts the body of a loop once; here it counts `length` times for each `lax.scan`."""
    return _total(jax.make_jaxpr(function)(*arguments))


def _total(closed: core.ClosedJaxpr) -> float:
    flops = _by_xla(closed)
    for length, body in _scans(closed.jaxpr):
        flops += length * _total(body) - _by_xla(body)
    return flops


def _by_xla(closed: core.ClosedJaxpr) -> float:
    """XLA's count for a program whose loops all run once."""
    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in closed.in_avals]
    analysis = jax.jit(core.jaxpr_as_fun(closed)).lower(*shapes).cost_analysis()
    return float(analysis["flops"]) if analysis else 0.0


def _scans(jaxpr: Any) -> Iterator[tuple[int, core.ClosedJaxpr]]:
    """Length and body of each scan in a program, but not of those inside another scan's body."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["length"], equation.params["jaxpr"]
            continue
        for value in equation.params.values():
            for part in value if isinstance(value, tuple) else (value,):  # the branches of a choice
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _scans(inner)
