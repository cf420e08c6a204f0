"""Episodes that no replay sees: evaluations during training, and dreams examined on them."""

from __future__ import annotations

from collections.abc import Sequence

from dreamerjax.agent.policy import Policy
from dreamerjax.agent.state import Params
from dreamerjax.data.collector import EvaluationResult, evaluate_policy
from dreamerjax.data.episodes import PlayedEpisode
from dreamerjax.diagnostics.calibration import EPISODES, Examination, Examiner
from dreamerjax.diagnostics.dream_rollout import Dream, Watcher
from dreamerjax.envs import Envs, Purpose, episode_seed, make_vector_env
from dreamerjax.training.build import EVALUATION_SEED, World, derived_seed

ENVS = 32  # at most so many environments side by side


class Evaluator:
    """Environments, policies and compiled programs of a run, made when they are first needed; `close` ends the environments."""

    def __init__(self, world: World) -> None:
        behavior = world.config.behavior
        self._world = world
        self._made: tuple[Envs, dict[str, Policy]] | None = None
        self._examiner = Examiner(world.networks, horizon=behavior.horizon, gamma=behavior.gamma, lambda_=behavior.lambda_)
        self._watcher = Watcher(world.networks, behavior.gamma)

    def play(self, acting: dict[str, Params], env_steps: int, *, keep: bool) -> dict[str, EvaluationResult]:
        """`train.eval_episodes` episodes with each of the greedy and the sampled policy, the same for the same `env_steps`.

        With `keep` the first of the sampled ones come with every step, for `examine`.
        """
        config = self._world.config
        episodes = config.train.eval_episodes
        envs, policies = self._made = self._made or self._make(acting)
        seed = episode_seed(config.train.seed, Purpose.evaluation, EVALUATION_SEED, env_steps)
        results = {}
        for name, policy in policies.items():
            policy.params = acting
            policy.reset()
            kept = EPISODES if keep and name == "sampled" else 0
            results[name] = evaluate_policy(envs, self._world.spec, policy, episodes, seed, keep=kept)
        return results

    def _make(self, acting: dict[str, Params]) -> tuple[Envs, dict[str, Policy]]:
        config, networks = self._world.config, self._world.networks
        count = min(config.train.eval_episodes, ENVS)
        seed = derived_seed(config.train.seed, EVALUATION_SEED)
        policies = {name: Policy(networks, acting, count, seed, greedy=name == "greedy") for name in ("greedy", "sampled")}
        return make_vector_env(config.env, count), policies

    def examine(self, params: dict[str, Params], played: Sequence[PlayedEpisode], env_steps: int) -> Examination:
        """Compare the agent's dreams with episodes of its sampled policy."""
        return self._examiner(params, played, seed=env_steps)

    def watch(self, params: dict[str, Params], episode: PlayedEpisode, env_steps: int) -> Dream:
        """Let the agent see the beginning of an episode and dream on with its actions."""
        return self._watcher(params, episode, seed=env_steps)

    def close(self) -> None:
        """End the environments."""
        if self._made is not None:
            self._made[0].close()
