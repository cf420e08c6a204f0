from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from dreamerjax.envs.membership import mismatches

PLACE = Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 9.0], np.float32))
NESTED = Dict({"place": PLACE, "pair": Tuple((Discrete(3, start=1), MultiBinary(2)))})
INSIDE = {"place": np.zeros(2, np.float32), "pair": (1, np.zeros(2, np.int8))}


@pytest.mark.parametrize("space", [PLACE, NESTED, MultiDiscrete([2, 3]), Box(0, 255, (3,), np.uint8), Discrete(4)])
def test_samples_are_inside(space: gym.Space[Any]) -> None:
    assert not list(mismatches(space, space.sample()))


@pytest.mark.parametrize(
    ("space", "value", "kind", "words"),
    [
        (PLACE, np.array([0.0, 9.5], np.float32), "range", "component 1 is 9.5, its bounds are 0 and 9"),
        (PLACE, np.array([np.nan, 0.0], np.float32), "range", "component 0 is nan, its bounds are -1 and 1"),
        (PLACE, np.zeros((1, 2), np.float32), "shape", "has shape (1, 2), its space (2,)"),
        (PLACE, np.array([0.5, 0.5]), "precision", "is float64, its space float32"),
        (PLACE, np.array([2.0, 0.5]), "range", "component 0 is 2, its bounds are -1 and 1"),
        (PLACE, [0.0, [1.0, 2.0]], "shape", "has shape (), its space (2,)"),
        (PLACE, np.array(["a", "b"]), "dtype", "is <U1, its space float32"),
        (Box(-1.0, 1.0, ()), np.array(3.0, np.float32), "range", "is 3, its bounds are -1 and 1"),
        (Discrete(3), 3, "range", "is 3, its space Discrete(3)"),
        (Discrete(3), 1.0, "dtype", "is float64, its space int64"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), "range", "is [1 3], its space MultiDiscrete([2 3])"),
        (MultiDiscrete([2, 3], dtype=np.int32), np.array([1, 2]), "precision", "is int64, its space int32"),
        (NESTED, 3, "structure", "must be a dict with the keys ['pair', 'place'], has type int"),
        (NESTED, {"place": 0}, "structure", "must be a dict with the keys ['pair', 'place'], has the keys ['place']"),
        (NESTED, INSIDE | {"pair": [1, 2]}, "structure", "must be a tuple of 2, is type list"),
        (NESTED, INSIDE | {"pair": (1,)}, "structure", "must be a tuple of 2, is 1"),
        (NESTED, INSIDE | {"pair": (4, np.zeros(2, np.int8))}, "range", "is 4, its space Discrete(3, start=1)"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Casting input x to numpy array")
def test_reasons(space: gym.Space[Any], value: Any, kind: str, words: str) -> None:
    (found,) = mismatches(space, value)
    assert (found.kind, found.words) == (kind, words)


def test_names_are_those_of_the_agent() -> None:
    value = {"place": np.full(2, 10.0, np.float32), "pair": (0, np.full(2, 2, np.int8))}
    assert [found.name for found in mismatches(NESTED, value)] == ["pair.0", "pair.1", "place"]
    assert [found.name for found in mismatches(Discrete(2), 2)] == ["state"]
