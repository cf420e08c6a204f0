"""Playing episodes that no replay sees, and examining dreams on them: the one evaluation, of a run and of what it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from dreamerjax.agent.policy import Policy
from dreamerjax.agent.state import acting_params
from dreamerjax.config.schema import Config
from dreamerjax.core.types import ActFunction, Arrays
from dreamerjax.data.episodes import PlayedEpisode, Recorder
from dreamerjax.diagnostics.calibration import CalibrationReport, Calibrator
from dreamerjax.diagnostics.dream_rollout import DreamRollout, DreamWatcher
from dreamerjax.envs import Envs, Purpose, Stepper, episode_seed, make_vector_env
from dreamerjax.networks.build import Networks

MOST_ENVS = 32  # at most so many environments side by side


class Acting(Enum):
    """Which policy: the most probable action, or a sample."""

    greedy = "greedy"
    sampled = "sampled"


@dataclass(frozen=True)
class EvaluationResult:
    """One entry per episode, in the order of their seeds."""

    returns: np.ndarray  # float64 [episodes]
    lengths: np.ndarray  # int64 [episodes], environment steps
    played: tuple[PlayedEpisode, ...] = ()  # the first of them, as many as were asked for


def play_episodes(envs: Envs, policy: ActFunction, episodes: int, seed: int, *, keep: int = 0) -> EvaluationResult:
    """Run exactly `episodes` episodes. Number i is played by stream i modulo n, and has a seed of its own.

    So that short episodes are not favoured, no stream takes over another's share; one that has finished its own is
    stepped on unrecorded. The first `keep` episodes are returned step by step; they are in no replay.
    Raises EnvironmentFault as `Collector.collect` does.
    """
    n = envs.num_envs
    stepper, recorder = Stepper(envs, "evaluation"), Recorder(min(keep, episodes))
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    return_, length = np.zeros(n), np.zeros(n, np.int64)
    number, is_first, env_step = np.arange(n), np.ones(n, np.bool_), 0  # number: the episode that each stream plays

    def begin() -> Arrays:
        seeds = [episode_seed(seed, Purpose.evaluation, 0, int(episode)) for episode in number]
        return stepper.reset(is_first, seeds, env_step)

    observations = begin()
    while number.min() < episodes:
        action = np.asarray(policy(observations, is_first)[0])
        following, reward, terminated, truncated = stepper.step(action, env_step)
        recorder.step(number, observations, action, reward)
        observations = following
        env_step += n
        return_, length = return_ + reward, length + 1
        is_first = terminated | truncated
        if is_first.any():
            recorder.end(number, is_first, observations, terminated)
            counted = is_first & (number < episodes)
            returns[number[counted]], lengths[number[counted]] = return_[counted], length[counted]
            number = number + n * is_first
            return_, length = return_ * ~is_first, length * ~is_first
            observations = begin()
    return EvaluationResult(returns, lengths, recorder.episodes())


class Evaluator:
    """Environments, policies and compiled programs, made when they are first needed; `close` ends the environments.

    `agent` is everywhere what `TrainState.averaged` or `Agent.all_params` has: world_model, actor, critic, statistics.
    """

    def __init__(self, config: Config, networks: Networks, policy_seed: int, *, most_envs: int = MOST_ENVS) -> None:
        self._config, self._networks = config, networks
        self._policy_seed, self._most_envs = policy_seed, most_envs
        self.shared: Envs | None = None  # of somebody else, who begins new episodes afterwards and closes them
        self._envs: dict[int, Envs] = {}
        self._policies: dict[tuple[Acting, int], Policy] = {}
        behavior = config.behavior
        self._calibrator = Calibrator(networks, horizon=behavior.horizon, gamma=behavior.gamma, lambda_=behavior.lambda_)
        self._watcher = DreamWatcher(networks, behavior.gamma)

    def play(
        self, agent: dict[str, Any], acting: Acting, episodes: int, seed: int, *, keep: int = 0, envs: Envs | None = None
    ) -> EvaluationResult:
        """Episodes as `play_episodes` has them, the same for the same seed; in `envs` if they are given."""
        envs = envs or self.shared or self.make(episodes)
        key = acting, envs.num_envs
        if key not in self._policies:
            greedy = acting is Acting.greedy
            self._policies[key] = Policy(self._networks, None, envs.num_envs, self._policy_seed, greedy=greedy)
        policy = self._policies[key]
        policy.params = acting_params(agent)
        policy.reset()
        return play_episodes(envs, policy, episodes, seed, keep=keep)

    def make(self, episodes: int) -> Envs:
        """The environments for so many episodes, made once. Raises UserError as `make_vector_env` does."""
        count = min(episodes, self._most_envs)
        if count not in self._envs:
            self._envs[count] = make_vector_env(self._config.env, count)
        return self._envs[count]

    def calibrate(self, agent: dict[str, Any], played: Sequence[PlayedEpisode], seed: int) -> CalibrationReport:
        """Compare the agent's dreams with episodes of its sampled policy."""
        return self._calibrator(agent, played, seed)

    def watch(self, agent: dict[str, Any], episode: PlayedEpisode, seed: int) -> DreamRollout:
        """Let the agent see the beginning of an episode and dream on with its actions."""
        return self._watcher(agent, episode, seed)

    def close(self) -> None:
        """End the environments."""
        for envs in self._envs.values():
            envs.close()
