import re

import numpy as np
import pytest

from dreamerjax.config.schema import EnvConfig
from dreamerjax.core.types import Arrays
from dreamerjax.envs import Adapter, EnvironmentFault, Snapshot, env_spec, make_env


def play(env: Adapter, seed: int, actions: np.ndarray) -> Snapshot:
    observation, return_ = env.reset(seed=seed)[0], 0.0
    for action in actions:
        observation, reward, *_ = env.step(action)
        return_ += reward
    return Snapshot(seed, actions, observation, return_)


def actions_of(env: Adapter, count: int) -> np.ndarray:
    spec = env_spec(env.observation_space, env.action_space).action
    env.action_space.seed(0)
    return np.array([env.action_space.sample() for _ in range(count)], spec.dtype).reshape(count, *spec.shape)


def restore(env: Adapter, snapshot: Snapshot) -> str:
    env.pending = snapshot
    return env.restore()


def same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "sample_envs:Mixed-v0"])
@pytest.mark.parametrize("steps", [0, 7])
def test_goes_on_as_the_original(env_id: str, steps: int) -> None:
    original, copy = make_env(EnvConfig(id=env_id)), make_env(EnvConfig(id=env_id))
    actions = actions_of(original, steps + 3)
    snapshot = play(original, 2, actions[:steps])
    play(copy, 5, actions[:1])
    assert restore(copy, snapshot) == ""
    for action in actions[steps:]:
        expected, result = original.step(action), copy.step(action)
        assert same(expected[0], result[0])
        assert expected[1:] == result[1:]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("observation", "observation 'state' differs after the same seed and 8 actions"),
        ("reward", "the return differs after the same seed and 8 actions"),
        ("end", r"the episode ended after \d of the same 8 actions"),
    ],
)
def test_says_what_differs(what: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(EnvConfig(id="sample_envs:Restless-v0", kwargs={"what": what}))
    monkeypatch.setattr("sample_envs._calls", iter(range(100)))
    snapshot = play(env, 0, actions_of(env, 8))
    assert re.fullmatch(reason, restore(env, snapshot))


def test_an_environment_that_raises_when_replayed() -> None:
    env = make_env(EnvConfig(id="sample_envs:Faulty-v0", kwargs={"what": "raise", "at": 3}))
    snapshot = Snapshot(0, np.zeros((4, 1), np.int32), {}, 0.0)
    assert re.search(r"raised RuntimeError in step \(.*\): the gears are stuck at 100%s$", restore(env, snapshot))


@pytest.mark.parametrize(("what", "method"), [("raise", "step"), ("raise_in_reset", "reset")])
def test_faults_are_one_line_with_the_cause(what: str, method: str) -> None:
    env = make_env(EnvConfig(id="sample_envs:Faulty-v0", kwargs={"what": what, "at": 1}))
    env.reset(seed=0)

    def fail() -> None:
        env.step(np.array([0], np.int32))
        env.reset(seed=0)

    expected = f"environment sample_envs:Faulty-v0 raised RuntimeError in {method} \\(sample_envs.py, line \\d+\\): the"
    with pytest.raises(EnvironmentFault, match=expected) as caught:
        fail()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, RuntimeError)
