"""The episodes of an evaluation, step by step."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from dreamerjax.config.schema import EnvConfig
from dreamerjax.data.playing import play_episodes
from dreamerjax.envs import Purpose, env_spec, episode_seed, make_vector_env
from tests.data.test_collector import reflex

LIMIT = 12


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_the_first_episodes_are_kept_as_they_were_played(num_envs: int) -> None:
    envs = make_vector_env(EnvConfig(time_limit=LIMIT), num_envs)
    spec = env_spec(envs.single_observation_space, envs.single_action_space)
    result = play_episodes(envs, reflex(spec), 7, 5, keep=5, longest=1_000)
    envs.close()
    assert len(result.played) == 5
    for index, episode in enumerate(result.played):
        env = gym.make("CartPole-v1", max_episode_steps=LIMIT)
        seen = [env.reset(seed=episode_seed(5, Purpose.evaluation, 0, index))[0]]
        for action, reward in zip(episode.actions, episode.rewards, strict=True):
            observation, expected, terminated, truncated, _ = env.step(int(action[0]))
            seen.append(observation)
            assert reward == expected
        np.testing.assert_array_equal(episode.observations["state"], np.stack(seen))
        assert terminated or truncated
        assert episode.terminated is terminated
        assert (len(episode), episode.rewards.sum()) == (result.lengths[index], result.returns[index])
    assert {episode.terminated for episode in result.played} == {True, False}


def test_nothing_is_kept_unasked_and_no_more_than_there_is() -> None:
    envs = make_vector_env(EnvConfig(), 4)
    spec = env_spec(envs.single_observation_space, envs.single_action_space)
    assert play_episodes(envs, reflex(spec), 2, 5, longest=1_000).played == ()
    assert len(play_episodes(envs, reflex(spec), 2, 5, keep=9, longest=1_000).played) == 2
    envs.close()
