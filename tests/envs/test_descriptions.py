"""What is said about spaces: what the agent sees, what is probably not meant, and what is too large."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from dreamerjax.core.errors import UserError
from dreamerjax.envs.descriptions import remarks, summary
from dreamerjax.envs.image_view import ImageView
from dreamerjax.envs.spaces import MOST, env_spec, leaves

TWO = Discrete(2)
VIEW = ImageView((64, 64))


@pytest.mark.parametrize(
    ("space", "number"),
    [
        (Discrete(2**33), 2**33),
        (Discrete(MOST + 1, start=-5), MOST + 1),
        (MultiDiscrete([10**7]), 10**7),
        (MultiDiscrete([1000] * 100), 100_000),
        (MultiDiscrete(np.array([[40_000, 40_000]])), 80_000),
        (MultiBinary(40_000), 80_000),
        (Box(-1.0, 1.0, (400, 600, 3)), 720_000),
        (Dict({"a": Dict({"b": Discrete(10**9)})}), 10**9),
    ],
)
def test_what_would_take_gigabytes_is_refused_with_the_number(space: gym.Space[Any], number: int) -> None:
    with pytest.raises(UserError, match=f"is {number} numbers.*at most 65536 are supported") as caught:
        env_spec(space, TWO)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("space", [Discrete(2**33), MultiDiscrete([10**9]), MultiDiscrete([2] * 40_000), Box(-1, 1, (70_000,))])
def test_actions_too(space: gym.Space[Any]) -> None:
    with pytest.raises(UserError, match=r"action space .* numbers.*at most 65536 are supported"):
        env_spec(TWO, space)


@pytest.mark.parametrize("space", [Discrete(MOST), Box(0, 255, (400, 600, 3), np.uint8), Box(-1, 1, (128, 128, 3))])
def test_what_is_not_too_large(space: gym.Space[Any]) -> None:
    env_spec(space, TWO, VIEW)


@pytest.mark.parametrize(
    ("space", "action", "words"),
    [
        (Box(0, 1, (10, 10, 4), np.uint8), TWO, "'image' has values of only 0 to 1, where 255 is white"),
        (Box(0, 1, (10, 10, 4), np.uint8), TWO, "is enlarged from 10 x 10 to 64 x 64"),
        (Box(0, 3, (64, 64), np.uint8), TWO, "'image' has values of only 0 to 3"),
        (Box(0, 255, (3, 8, 8), np.uint8), TWO, "may have its channels first"),
        (Box(0, 255, (64, 64, 17), np.uint8), TWO, "has 17 channels"),
        (Box(0.0, 1.0, (64, 64, 3)), TWO, "is taken for a vector of 12,288 numbers: a picture must be uint8"),
        (Discrete(1), TWO, "can have one value only"),
        (TWO, Discrete(1), "there is only one action"),
        (TWO, Box(-3e38, 3e38, (2,)), "the action's bounds reach 3e+38 in size"),
    ],
)
def test_what_is_probably_not_meant(space: gym.Space[Any], action: gym.Space[Any], words: str) -> None:
    assert any(words in remark for remark in remarks(leaves(space, VIEW), action))


@pytest.mark.parametrize(
    "space", [Box(-1, 1, (4,)), Box(0, 255, (400, 600, 3), np.uint8), Box(0, 255, (64, 64), np.uint8), TWO]
)
@pytest.mark.parametrize("action", [TWO, Box(-2.0, 2.0, (1,))])
def test_nothing_is_said_about_what_is_usual(space: gym.Space[Any], action: gym.Space[Any]) -> None:
    assert list(remarks(leaves(space, VIEW), action)) == []


def test_all_in_one_line() -> None:
    spec = env_spec(Dict({"a": Box(-1, 1, (2,)), "b": Discrete(3)}), Box(-1, 1, (2,)))
    assert summary(spec) == (
        "the agent sees a (float32 (2,)); b (int32 (1,), 3 classes, one-hot in 3 numbers); acts: continuous, float32 (2,), "
        "-1 to 1 between the environment's bounds"
    )
