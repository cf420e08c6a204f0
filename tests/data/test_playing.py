"""The bounds of an evaluation: episodes that never end, and a run that is to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamerjax.config.schema import Config, EnvConfig, TrainConfig
from dreamerjax.core.stopping import Stop, Stopped
from dreamerjax.core.types import Arrays
from dreamerjax.data.playing import longest_episode, play_episodes
from dreamerjax.envs import Given, make_vector_env


@pytest.fixture(autouse=True)
def _sample_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "envs")


ENDLESS = EnvConfig(id="sample_envs:Probe-v0")  # no episode of it ends


@pytest.mark.parametrize(
    ("env", "train", "expected"),
    [
        (EnvConfig(id="CartPole-v1"), TrainConfig(), 500),
        (EnvConfig(id="CartPole-v1", time_limit=70_000), TrainConfig(), 70_000),
        (ENDLESS, TrainConfig(steps=200), 1_000),
        (ENDLESS, TrainConfig(steps=4_000), 4_000),
        (ENDLESS, TrainConfig(steps=10**9), 10_000),
        (ENDLESS, TrainConfig(eval_length=30_000), 30_000),
        (EnvConfig(id="CartPole-v1"), TrainConfig(eval_length=7), 7),
    ],
)
def test_how_long_an_episode_may_be(env: EnvConfig, train: TrainConfig, expected: int) -> None:
    assert longest_episode(Config(env=env, train=train)) == expected


def test_a_given_environment_has_no_time_limit() -> None:
    assert longest_episode(Config(train=TrainConfig(steps=200)), Given(dict)) == 1_000


def stay(observations: Arrays, is_first: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    return np.zeros((len(is_first), 1), np.int32), {}


def test_endless_episodes_are_cut_and_that_is_said() -> None:
    envs = make_vector_env(ENDLESS, 2)
    result = play_episodes(envs, stay, 3, 0, longest=9, keep=3)
    envs.close()
    assert result.lengths.tolist() == [9, 9, 9]
    assert [(len(episode), episode.terminated) for episode in result.played] == [(9, False)] * 3
    assert result.cut == 3
    assert result.remark == "3 of 3 episodes had not ended after 9 steps and were cut (train.eval_length)"


def test_episodes_that_end_in_time_are_not_cut() -> None:
    envs = make_vector_env(EnvConfig(id="sample_envs:Faulty-v0", kwargs={"length": 9}), 2)
    result = play_episodes(envs, stay, 3, 0, longest=9)
    envs.close()
    assert (result.lengths.tolist(), result.cut, result.remark) == ([9, 9, 9], 0, "")


def test_between_two_steps_it_is_looked_whether_the_run_is_to_end() -> None:
    stop, steps = Stop(), 0

    def policy(observations: Arrays, is_first: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        nonlocal steps
        steps += 1
        stop.requested = steps == 5
        return stay(observations, is_first)

    envs = make_vector_env(ENDLESS, 1)
    with pytest.raises(Stopped):
        play_episodes(envs, policy, 1, 0, longest=10**9, stop=stop)
    envs.close()
    assert steps == 5
