"""Statistics of an evaluation."""

from __future__ import annotations

from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop
from dreamerjax.data.playing import EvaluationResult
from dreamerjax.envs import Given, env_spec, make_vector_env
from dreamerjax.evaluate import bootstrap_interval, describe
from dreamerjax.networks.build import build_networks
from dreamerjax.training.evaluation import Evaluator


def test_interval_of_a_large_sample_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(10.0, 3.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_is_reproducible() -> None:
    values = np.random.default_rng(0).normal(size=10)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


@pytest.mark.parametrize("values", [np.array([5.0]), np.full(7, 500.0)])
def test_interval_without_spread(values: np.ndarray) -> None:
    assert bootstrap_interval(values) == (values[0], values[0])


def test_describe() -> None:
    report = describe(EvaluationResult(np.array([1.0, 2.0, 6.0]), np.array([10, 20, 60])))
    low, high = report.pop("return_mean_95")
    assert 1.0 <= low < 3.0 < high <= 6.0
    assert report == {
        "episodes": 3,
        "return_mean": 3.0,
        "return_std": pytest.approx(np.sqrt(14 / 3)),
        "return_min": 1.0,
        "return_max": 6.0,
        "length_mean": 30.0,
        "returns": [1.0, 2.0, 6.0],
        "episodes_cut": 0,
    }


def test_environments_that_are_not_the_trainings_are_refused() -> None:
    sizes = iter([3, 5])

    class Growing(gym.Env[np.ndarray, np.integer]):
        action_space = Discrete(2)

        def __init__(self) -> None:
            self.observation_space = Box(-np.inf, np.inf, (next(sizes),), np.float32)

    config, source = Config(), Given(Growing)
    config.env.id = source.id
    with closing(make_vector_env(config.env, 1, source)) as envs:
        networks = build_networks(env_spec(envs.single_observation_space, envs.single_action_space), config.model)
    with pytest.raises(UserError, match=r"instances differ: in those of an evaluation the agent sees state \(float32 \(5,\)\)"):
        Evaluator(config, networks, 0, Stop(), source=source).make(1)
