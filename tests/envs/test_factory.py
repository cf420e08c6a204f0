import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dreamerjax.config.schema import EnvConfig
from dreamerjax.core.errors import UserError
from dreamerjax.envs import env_spec, make_env


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "Blackjack-v1", "sample_envs:Mixed-v0"])
def test_observations_and_actions_are_as_the_spec_says(env_id: str) -> None:
    env = make_env(EnvConfig(id=env_id))
    spec = env_spec(env.observation_space, env.action_space)
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(30):
        assert env.observation_space.contains(observation)
        assert observation.keys() == spec.observations.keys()
        action = env.action_space.sample() if spec.action.is_discrete else rng.uniform(-1, 1, spec.action.shape)
        observation, reward, terminated, truncated, _ = env.step(np.asarray(action, spec.action.dtype))
        assert np.isfinite(reward)
        if terminated or truncated:
            observation, _ = env.reset(seed=1)


def test_the_same_as_gymnasium_alone() -> None:
    ours, theirs = make_env(EnvConfig(id="Pendulum-v1")), gym.make("Pendulum-v1")
    observation, expected = ours.reset(seed=3)[0]["state"], theirs.reset(seed=3)[0]
    np.testing.assert_array_equal(observation, expected, strict=True)
    for value in (-1.0, 0.25, 1.0):
        step, expected_step = ours.step(np.array([value], np.float32)), theirs.step(np.array([2 * value], np.float32))
        np.testing.assert_array_equal(step[0]["state"], expected_step[0])
        assert step[1:4] == expected_step[1:4]


def test_action_repeat_sums_rewards_and_stops_at_the_end() -> None:
    env = make_env(EnvConfig(id="sample_envs:Faulty-v0", kwargs={"length": 5}, action_repeat=3))
    env.reset(seed=0)
    action = np.array([0], np.int32)
    observation, reward, _, truncated, _ = env.step(action)
    assert (observation["count"][0], reward, truncated) == (3.0, 3.0, False)
    observation, reward, _, truncated, _ = env.step(action)
    assert (observation["count"][0], reward, truncated) == (5.0, 2.0, True)


def test_time_limit_truncates_before_or_after_the_registered_one() -> None:
    for limit in (3, 700):
        env = make_env(EnvConfig(id="Pendulum-v1", time_limit=limit))
        env.reset(seed=0)
        ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(limit)]
        assert ends == [(False, False)] * (limit - 1) + [(False, True)]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (EnvConfig(id="CartPoel-v1"), "env.id=CartPoel-v1: NameNotFound: .*CartPole.* env.id=module:CartPoel-v1"),
        (EnvConfig(id="CartPole-v9"), "env.id=CartPole-v9: VersionNotFound"),
        (EnvConfig(id="NoSuch/Thing-v0"), "env.id=NoSuch/Thing-v0: NamespaceNotFound"),
        (EnvConfig(id="no_such_module:Thing-v0"), "ModuleNotFoundError: No module named 'no_such_module'"),
        (EnvConfig(id="not an id!"), "env.id=not an id!"),
        (EnvConfig(id=""), "env.id="),
        (EnvConfig(id="Pendulum-v1", kwargs={"gee": 3}), "TypeError: .*unexpected keyword argument 'gee'"),
    ],
    ids=lambda value: value.id if isinstance(value, EnvConfig) else "",
)
def test_what_cannot_be_made_is_one_line(config: EnvConfig, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        make_env(config)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_package_that_an_environment_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(UserError, match=r"env.id=LunarLander-v3: .*[Bb]ox2[Dd]"):
        make_env(EnvConfig(id="LunarLander-v3"))


def test_unsupported_space_names_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sample_envs.Mixed.action_space", gym.spaces.MultiBinary(2))
    with pytest.raises(UserError, match=r"env.id=sample_envs:Mixed-v0: action space MultiBinary\(2\) is not supported"):
        make_env(EnvConfig(id="sample_envs:Mixed-v0"))


def test_environments_do_not_need_jax() -> None:
    code = "import sys, dreamerjax.envs; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
