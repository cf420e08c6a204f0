"""Playing episodes that no replay sees, and examining dreams on them: the one evaluation, of a run and of what it left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

from dreamerjax.agent.policy import Policy
from dreamerjax.agent.state import acting_params
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop
from dreamerjax.data.playing import EvaluationResult, PlayedEpisode, longest_episode, play_episodes
from dreamerjax.diagnostics.calibration import CalibrationReport, Calibrator
from dreamerjax.diagnostics.open_loop import DreamRollout, DreamWatcher
from dreamerjax.envs import Envs, Source, env_spec, make_vector_env
from dreamerjax.envs.descriptions import summary
from dreamerjax.networks.build import Networks

T = TypeVar("T")
MOST_ENVS = 32  # at most so many environments side by side


class Acting(Enum):
    """Which policy: the most probable action, or a sample."""

    greedy = "greedy"
    sampled = "sampled"


class Evaluator:
    """Environments, policies and compiled programs, made when they are first needed; `close` ends the environments.

    `agent` is everywhere what `TrainState.averaged` or `Agent.all_params` has: world_model, actor, critic, statistics.
    All that takes long raises Stopped when `stop` says that it is to end.
    """

    def __init__(
        self,
        config: Config,
        networks: Networks,
        policy_seed: int,
        stop: Stop,
        *,
        most_envs: int = MOST_ENVS,
        source: Source | None = None,
    ) -> None:
        self._config, self._networks, self._source, self._stop = config, networks, source, stop
        self._longest = longest_episode(config, source)
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
        return play_episodes(envs, policy, episodes, seed, longest=self._longest, keep=keep, stop=self._stop)

    def make(self, episodes: int) -> Envs:
        """The environments for so many episodes, made once.

        Raises UserError as `make_vector_env` does, and where they are not as those that the networks were made for.
        """
        count = min(episodes, self._most_envs)
        if count not in self._envs:
            envs = make_vector_env(self._config.env, count, self._source, self._stop)
            spec, wanted = env_spec(envs.single_observation_space, envs.single_action_space), self._networks.spec
            if spec != wanted:
                envs.close()
                differ = f"{summary(spec)}, in others {summary(wanted)}"
                raise UserError(f"env.id={self._config.env.id}: instances differ: in those of an evaluation {differ}")
            self._envs[count] = envs
        return self._envs[count]

    def calibrate(self, agent: dict[str, Any], played: Sequence[PlayedEpisode], seed: int) -> CalibrationReport:
        """Compare the agent's dreams with episodes of its sampled policy."""
        return self._in_time(self._calibrator, agent, played, seed)

    def watch(self, agent: dict[str, Any], episode: PlayedEpisode, seed: int) -> DreamRollout:
        """Let the agent see the beginning of an episode and dream on with its actions."""
        return self._in_time(self._watcher, agent, episode, seed)

    def _in_time(self, work: Callable[..., T], *args: Any) -> T:
        return self._stop.wait_for(work, *args) if self._config.jit else work(*args)  # jit is off in one thread alone

    def close(self) -> None:
        """End the environments."""
        for envs in self._envs.values():
            envs.close()
