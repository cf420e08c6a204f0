"""Environments whose values are known in closed form, learned in seconds by the real loop to the known values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from dreamerjax import train
from dreamerjax.agent import actor_critic
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.state import Batch
from dreamerjax.agent.world_model import FilterInputs, Latent, encode_action, feature, observe
from dreamerjax.config.schema import (
    BehaviorConfig,
    BinsConfig,
    Config,
    EnvConfig,
    LossConfig,
    LossScales,
    OptimConfig,
    ParallelConfig,
    RunConfig,
)
from dreamerjax.config.schema import TrainConfig as LoopConfig
from dreamerjax.core.stopping import Stop
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, scalars
from dreamerjax.training.run_state import RunState
from dreamerjax.training.world import replay_batch
from tests.helpers import model_config

GAMMA = 0.8
PICTURE = (16, 16, 1)


class Probe(gym.Env[Any, Any]):
    """Ends after one step, or two for `delay`; the last step's reward, else 0, is that of its kind.

    `observation`: the number first seen. `action`: 1 for action 1 where 1 is seen, or 0 where -1 is. `picture`: the same,
    drawn, and the right choice is worth only 0.5 where -1 is seen. `continuous`: 1 - (a - 0.5)^2. The others: 1.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._draws = kind == "picture"
        self.observation_space = Box(0, 255, PICTURE, np.uint8) if self._draws else Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32) if kind == "continuous" else Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._seen = float(self.np_random.choice([-1.0, 1.0])) if self._kind in ("observation", "action", "picture") else 0.0
        self._steps = 0
        return self._show(self._seen), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        ended = self._steps == (2 if self._kind == "delay" else 1)
        return self._show(0.5), self._reward(action) * ended, ended, False, {}

    def _reward(self, action: Any) -> float:
        if self._kind == "continuous":
            return 1.0 - float(action[0] - 0.5) ** 2
        right = float((action == 1) == (self._seen > 0))
        return {"observation": self._seen, "action": right, "picture": right * worth(self._seen)}.get(self._kind, 1.0)

    def _show(self, number: float) -> np.ndarray:
        return drawn(number) if self._draws else np.array([number], np.float32)


def worth(seen: float) -> float:
    """Of the right choice in `picture`."""
    return 1.0 if seen > 0 else 0.5


def drawn(number: float) -> np.ndarray:
    """A picture of a number from -1 to 1: grey, its right half as much brighter as its left half is darker."""
    brightness = np.repeat([128 - 100 * number, 128 + 100 * number], PICTURE[1] // 2)
    return np.broadcast_to(brightness[None, :, None], PICTURE).astype(np.uint8)


gym.register("Known-v0", lambda **options: Probe(**options))


@dataclass(frozen=True)
class Learned:
    """What the trained agent says of replayed steps [N], and what happened there."""

    observation: np.ndarray  # the number, also where it is drawn
    reward: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray
    predicted_reward: np.ndarray
    continues: np.ndarray  # probability, the discount included
    value: np.ndarray
    policy: np.ndarray  # [N, 2] probabilities, or mean and standard deviation


def learn(kind: str, directory: Path, steps: int = 1000, replay_critic: float = 1.0, seed: int = 0) -> Learned:
    """Train on a probe with the loop of train.py: an update for every other environment step.

    `replay_critic` scales the loss that fits values to replayed returns, of earlier and worse actions too; dreams are of the
    policy as it is.
    """
    config = Config(
        env=EnvConfig(id="Known-v0", kwargs={"kind": kind}, num_envs=4, image_size=list(PICTURE[:2])),
        model=model_config(units=16, hidden=16, cnn_depth=1, bins=BinsConfig(31, -2.0, 2.0)),
        train=LoopConfig(
            seed=seed, steps=steps, train_ratio=16.0, batch_size=8, batch_length=4, updates_per_call=4, random_steps=64,
            eval_every=0, checkpoint_every=10**6, log_every=10**6,
        ),
        behavior=BehaviorConfig(horizon=3, starts=0, gamma=GAMMA),
        optim=OptimConfig(model_lr=3e-3, actor_lr=3e-3, critic_lr=3e-3, warmup=10),
        loss=LossConfig(scales=LossScales(replay_critic=replay_critic)),
        parallel=ParallelConfig(devices=1),
        run=RunConfig(root=str(directory)),
    )  # fmt: skip
    run_state = RunState(config, None, Stop())
    try:
        assert train.train(run_state) == "finished"
        return read_out(run_state)
    finally:
        run_state.close()


def read_out(run_state: RunState) -> Learned:
    """Heads on the posterior of freshly sampled sequences."""
    networks, params = run_state.world.networks, run_state.learner.state().newest
    sample = run_state.replay.sample(1, 64)
    batch: Batch = jax.tree.map(lambda leaf: leaf[0], replay_batch(run_state.world.spec, sample))

    @jax.jit
    def heads(params: Any, key: jax.Array) -> dict[str, jax.Array]:
        model = params["world_model"]
        previous = np.concatenate([batch.context_action[None], batch.action[:-1]])
        start = Latent(batch.context_deter, jax.nn.one_hot(batch.context_stoch, networks.rssm.classes))
        uniform = jax.random.uniform(key, (*batch.reward.shape, networks.rssm.groups))
        encoded = encode_action(networks, jnp.asarray(previous))
        seen = model_units(networks.spec.observations, params["statistics"], batch.observations)
        posterior = observe(networks, model, FilterInputs(seen, encoded, batch.is_first), start, uniform)
        inputs = feature(posterior.latent)
        reward_logits = apply(networks.reward, model["reward"], inputs)
        return {
            "predicted_reward": scalars.two_hot_mean(reward_logits, networks.bins),
            "continues": jax.nn.sigmoid(apply(networks.continue_, model["continue"], inputs)[..., 0]),
            "value": actor_critic.value(networks, params["critic"], inputs),
            "policy": policy(networks, apply(networks.actor, params["actor"], inputs)),
        }

    said = {name: np.asarray(value).reshape(-1, *value.shape[2:]) for name, value in heads(params, jax.random.key(0)).items()}
    flat = {name: getattr(batch, name).reshape(-1) for name in ("reward", "is_first", "is_last")}
    (observation,) = batch.observations.values()
    numbers = observation if observation.ndim == 3 else (observation[..., -1, -1, 0] - 128.0) / 100.0
    return Learned(observation=numbers.reshape(-1), **flat, **said)


def policy(networks: Networks, outputs: jax.Array) -> jax.Array:
    """[..., 2]: the probabilities of the two actions, or the one action's mean and standard deviation."""
    if networks.spec.action.is_discrete:
        return jax.nn.softmax(outputs)
    mean, std = distributions.bounded_normal_params(outputs[..., 0], outputs[..., 1], *networks.std_range)
    return jnp.stack([mean, std], axis=-1)


def test_a_constant_reward_is_predicted_and_valued(tmp_path: Path) -> None:
    """One step, reward 1: the value of the first state is 1, whatever the discount."""
    learned = learn("constant", tmp_path)
    np.testing.assert_allclose(learned.predicted_reward[learned.is_last], 1.0, atol=0.1)
    np.testing.assert_allclose(learned.predicted_reward[learned.is_first], 0.0, atol=0.1)
    np.testing.assert_allclose(learned.continues[learned.is_last], 0.0, atol=0.1)
    np.testing.assert_allclose(learned.continues[learned.is_first], GAMMA, atol=0.1)
    np.testing.assert_allclose(learned.value[learned.is_first], 1.0, atol=0.1)


def test_a_reward_that_was_announced_is_predicted_and_valued(tmp_path: Path) -> None:
    """The number seen first is the reward, at a step that looks the same for both: it must be remembered."""
    learned = learn("observation", tmp_path)
    first, last = learned.is_first, learned.is_last
    assert set(learned.reward[last]) == {-1.0, 1.0}
    assert np.abs(learned.predicted_reward[last] - learned.reward[last]).mean() < 0.15
    assert np.abs(learned.value[first] - learned.observation[first]).mean() < 0.15


def test_the_rewarded_action_is_chosen(tmp_path: Path) -> None:
    """Action 1 where +1 is seen, action 0 where -1 is: probability near 1, and the value that follows from it."""
    learned = learn("action", tmp_path, steps=2000)
    first = learned.is_first
    right = np.where(learned.observation[first] > 0, learned.policy[first, 1], learned.policy[first, 0])
    assert right.mean() > 0.9
    assert learned.value[first].mean() == pytest.approx(1.0, abs=0.15)


def test_the_best_continuous_action_is_found(tmp_path: Path) -> None:
    """Reward 1 - (a - 0.5)^2: a mean near 0.5, and the value 1 - (mean - 0.5)^2 - std^2 of the policy that draws around it."""
    learned = learn("continuous", tmp_path, steps=2000, replay_critic=0.0)
    first, last = learned.is_first, learned.is_last
    mean, std = learned.policy[first].T
    assert np.abs(mean - 0.5).mean() < 0.15
    assert std.mean() < 0.2
    assert np.abs(learned.value[first] - (1.0 - (mean - 0.5) ** 2 - std**2)).mean() < 0.1
    assert np.abs(learned.predicted_reward[last] - learned.reward[last]).mean() < 0.15


def test_a_picture_tells_the_rewarded_action_and_its_worth(tmp_path: Path) -> None:
    """Bright on the right: action 1 pays 1; bright on the left: action 0 pays 0.5. The values follow from the policy."""
    learned = learn("picture", tmp_path, steps=1500, replay_critic=0.0)
    first = learned.is_first
    seen = learned.observation[first]
    assert set(seen) == {-1.0, 1.0}
    right = np.where(seen > 0, learned.policy[first, 1], learned.policy[first, 0])
    for sign in (-1.0, 1.0):
        assert right[seen == sign].mean() > 0.9
        value = worth(sign) * right[seen == sign].mean()
        assert learned.value[first][seen == sign].mean() == pytest.approx(value, abs=0.1)


def test_a_reward_one_step_later_is_worth_gamma(tmp_path: Path) -> None:
    """Two steps, reward 1 at the end: the second state is worth 1, the first gamma."""
    learned = learn("delay", tmp_path)
    middle = ~learned.is_first & ~learned.is_last
    assert learned.value[middle].mean() == pytest.approx(1.0, abs=0.1)
    assert learned.value[learned.is_first].mean() == pytest.approx(GAMMA, abs=0.08)
    np.testing.assert_allclose(learned.predicted_reward[middle], 0.0, atol=0.15)
