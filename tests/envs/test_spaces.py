from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamerjax.core.errors import UserError
from dreamerjax.core.types import ActionSpec, ObservationSpec
from dreamerjax.envs import env_spec, spaces

VECTOR = Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "value", "spec", "flat"),
    [
        (Box(-np.inf, np.inf, (3,), np.float64), np.arange(3.0), ObservationSpec((3,)), [0.0, 1.0, 2.0]),
        (Box(0, 9, (2, 1), np.int16), np.array([[4], [5]]), ObservationSpec((2,)), [4.0, 5.0]),
        (Box(0, 255, (3,), np.uint8), np.array([0, 7, 255], np.uint8), ObservationSpec((3,)), [0.0, 7.0, 255.0]),
        (Box(-1.0, 1.0, ()), np.float32(0.5), ObservationSpec((1,)), [0.5]),
        (Discrete(4), 3, ObservationSpec((1,), (4,)), [3]),
        (Discrete(4, start=-2), np.int64(-1), ObservationSpec((1,), (4,)), [1]),
        (MultiDiscrete([3, 2], start=[1, 5]), np.array([3, 5]), ObservationSpec((2,), (3, 2)), [2, 0]),
        (
            MultiDiscrete(np.array([[3, 2], [4, 5]])),
            np.array([[2, 1], [3, 4]]),
            ObservationSpec((4,), (3, 2, 4, 5)),
            [2, 1, 3, 4],
        ),
        (MultiBinary(3), np.array([1, 0, 1], np.int8), ObservationSpec((3,), (2, 2, 2)), [1, 0, 1]),
    ],
    ids=str,
)
def test_observation_leaf(space: gym.Space[Any], value: Any, spec: ObservationSpec, flat: list[float]) -> None:
    (leaf,) = spaces.leaves(space)
    assert (leaf.name, leaf.spec) == ("state", spec)
    converted = leaf.convert(value)
    assert converted.dtype == (np.int32 if spec.is_discrete else np.float32)
    np.testing.assert_array_equal(converted, flat, strict=False)
    assert converted.shape == spec.shape


def test_nested_names_are_joined_and_reserved_ones_are_set_apart() -> None:
    space = Dict({"a": Dict({"b": VECTOR, "c": Tuple((Discrete(2), VECTOR))}), "reward": VECTOR, "action": Discrete(3)})
    found = {leaf.name: leaf.path for leaf in spaces.leaves(space)}
    assert found == {
        "a.b": ("a", "b"),
        "a.c.0": ("a", "c", 0),
        "a.c.1": ("a", "c", 1),
        "observation.action": ("action",),
        "observation.reward": ("reward",),
    }


def test_spec_of_the_adapted_spaces_is_the_same() -> None:
    spec = env_spec(Dict({"a": Dict({"b": VECTOR}), "deter": MultiBinary(2)}), MultiDiscrete([3, 2], start=[1, 1]))
    assert env_spec(spaces.observation_space(spec), spaces.action_space(spec.action)) == spec
    continuous = env_spec(VECTOR, Box(-3.0, 7.0, (2, 2)))
    assert continuous.action == ActionSpec(dimensions=4)
    assert env_spec(spaces.observation_space(continuous), spaces.action_space(continuous.action)) == continuous


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (Dict({"camera": Dict({"left": Box(0, 255, (8, 8), np.uint8), "text": Text(3)})}), "'camera.text'"),
        (Dict({"vector": VECTOR, "mission": Text(10)}), "'mission'"),
        (Box(-1.0, 1.0, (0,)), "'state'"),
        (Dict({}), "holds no observation"),
    ],
    ids=str,
)
def test_unsupported_observation(space: gym.Space[Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        env_spec(space, Discrete(2))
    message = str(caught.value)
    assert named in message
    assert "MultiBinary, and Dict or Tuple of these" in message
    assert "\n" not in message


def test_two_observations_of_one_flat_name() -> None:
    with pytest.raises(UserError, match="both named 'a\\.b'"):
        env_spec(Dict({"a": Dict({"b": VECTOR}), "a.b": VECTOR}), Discrete(2))


@pytest.mark.parametrize(
    "space",
    [Box(-np.inf, 1.0, (2,)), Box(0, 3, (2,), np.int32), Box(1.0, 1.0, (1,)), MultiBinary(3), Dict({"a": Discrete(2)})],
    ids=str,
)
def test_unsupported_action(space: gym.Space[Any]) -> None:
    with pytest.raises(UserError, match="supported: Discrete, MultiDiscrete, and Box of floats with finite bounds"):
        env_spec(VECTOR, space)


def test_discrete_actions_are_put_back() -> None:
    assert spaces.action_converter(Discrete(3, start=-1))(np.array([2], np.int32)) == 1
    space = MultiDiscrete(np.array([[3, 2], [4, 5]]), start=np.array([[0, 1], [2, 3]]))
    action = spaces.action_converter(space)(np.array([2, 0, 3, 4], np.int32))
    np.testing.assert_array_equal(action, [[2, 1], [5, 7]])
    assert space.contains(action)


def test_continuous_actions_are_rescaled_and_clipped() -> None:
    space = Box(np.array([[-2.0, 0.0]], np.float32), np.array([[2.0, 10.0]], np.float32))
    convert = spaces.action_converter(space)
    np.testing.assert_array_equal(convert(np.array([0.5, -0.5], np.float32)), [[1.0, 2.5]])
    np.testing.assert_array_equal(convert(np.array([-9.0, 9.0], np.float32)), [[-2.0, 10.0]])


@given(
    low=st.floats(-(2.0**126), 2.0**126, width=32),
    high=st.floats(-(2.0**126), 2.0**126, width=32),
    action=hnp.arrays(np.float32, 3, elements=st.floats(-2.0, 2.0, width=32)),
)
def test_continuous_actions_stay_within_the_bounds(low: float, high: float, action: np.ndarray) -> None:
    assume(low < high)
    space = Box(np.float32(low), np.float32(high), (3,), np.float32)
    assert space.contains(spaces.action_converter(space)(action))
