"""What is particular to each optional extra: ends of episodes, repeated actions, settings, pictures."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamerjax.config.schema import EnvConfig, Pixels
from dreamerjax.envs import make_env
from tests.envs.extra_envs import make, need, play


def end(env: gym.Env[Any, Any], seed: int, steps: int) -> tuple[int, bool, bool]:
    """Length of a random episode, and whether it was terminated and truncated."""
    *seen, last = play(env, seed, steps)
    env.close()
    return len(seen), bool(last[2]), bool(last[3])


def test_control_is_truncated_after_1000_steps() -> None:
    assert end(make("dmc/cartpole_balance"), 0, 2000) == (1000, False, True)
    assert end(make("dmc/cartpole_balance", max_episode_steps=1200), 0, 2000) == (1200, False, True)


def test_control_repeats_actions() -> None:
    need("dmc/cartpole_balance")
    once, twice = (make_env(EnvConfig(id="dmc/cartpole_balance", action_repeat=repeat)) for repeat in (1, 2))
    once.reset(seed=5)
    twice.reset(seed=5)
    for step in range(1, 501):
        action = np.sin([0.1 * step], dtype=np.float32)
        first, second, both = once.step(action), once.step(action), twice.step(action)
        np.testing.assert_equal(both[0], second[0])
        assert both[1:4] == (first[1] + second[1], False, step == 500)


def test_control_draws_itself() -> None:
    env = make("dmc/cartpole_balance", render_mode="rgb_array", height=48, width=64)
    assert env.metadata["render_fps"] == 100.0
    env.reset(seed=0)
    if os.environ.get("MUJOCO_GL") == "disable":
        pytest.skip("no library draws without a screen here")
    before = env.render()
    for _ in range(30):
        env.step(np.ones(1))
    after = env.render()
    assert isinstance(before, np.ndarray)
    assert isinstance(after, np.ndarray)
    assert (before.shape, before.dtype) == ((48, 64, 3), np.uint8)
    assert before.std() > 10
    assert not np.array_equal(before, after)
    env.close()


def test_control_from_its_pictures() -> None:
    need("dmc/cartpole_balance")
    if os.environ["MUJOCO_GL"] == "disable":
        pytest.skip("no library draws without a screen here")
    env = make_env(EnvConfig(id="dmc/cartpole_balance", pixels=Pixels.add, kwargs={"height": 64, "width": 64}, action_repeat=2))
    first = env.reset(seed=0)[0]
    assert first.keys() == {"position", "velocity", "image"}
    assert (first["image"].shape, first["image"].dtype) == ((64, 64, 3), np.uint8)
    for _ in range(5):
        last = env.step(np.ones(1, np.float32))[0]
    assert (first["image"] != last["image"]).any()
    env.close()


def test_a_game_is_as_in_atari_100k() -> None:
    env = make("atari/Breakout")
    ale: Any = env.get_wrapper_attr("ale")
    assert ale.getFloat("repeat_action_probability") == 0.0
    waits = []
    for seed in range(8):
        env.reset(seed=seed)
        waits.append(ale.getEpisodeFrameNumber())
        env.step(0)
        assert ale.getEpisodeFrameNumber() == waits[-1] + 4
    assert 1 <= min(waits) < max(waits) <= 30
    assert env.metadata["render_fps"] == 15
    env.action_space.seed(0)
    lives, terminated = [ale.lives()], False
    while not terminated:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        lives.append(ale.lives())
        assert not truncated
    assert sorted(set(lives)) == [0, 1, 2, 3, 4, 5]
    env.close()


def test_a_game_is_truncated_at_its_time_limit() -> None:
    assert end(make("atari/Pong", max_episode_steps=40), 0, 100) == (40, False, True)


def test_a_death_terminates_and_a_time_limit_truncates_in_crafter() -> None:
    length, terminated, truncated = end(make("crafter/reward"), 4, 400)
    assert (terminated, truncated) == (True, False)
    assert length < 400
    assert end(make("crafter/reward", max_episode_steps=20), 0, 100) == (20, False, True)


def test_crafter_counts_achievements() -> None:
    env = make("crafter/noreward")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(0)
    assert (reward, len(info["achievements"])) == (0.0, 22)


def test_minigrid_ends_at_the_goal_or_at_its_limit() -> None:
    env = make("minigrid/Empty-5x5")
    env.reset(seed=0)
    forward, right = 2, 1
    rewards = [env.step(action) for action in (forward, forward, right, forward, forward)]
    assert [float(step[1]) > 0 for step in rewards] == [False] * 4 + [True]
    assert rewards[-1][2:4] == (True, False)
    assert end(make("minigrid/DoorKey-8x8", max_steps=30), 0, 100) == (30, False, True)


def test_minigrid_shows_colours() -> None:
    env = make("minigrid/Empty-5x5", max_steps=20)
    picture = play(env, 0, 0)[0]["image"]
    assert (picture.shape, picture.dtype) == ((63, 63, 3), np.uint8)
    assert picture.max() > 100
