import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.core.errors import UserError
from dreamerjax.core.types import ActFunction, ActionSpec, Arrays, EnvSpec
from dreamerjax.data.collector import Collector, record_fields
from dreamerjax.data.playing import play_episodes
from dreamerjax.data.replay import Field, Replay
from dreamerjax.envs import EnvironmentFault, Envs, Purpose, env_spec, episode_seed, make_env, make_vector_env
from dreamerjax.envs.random_rollouts import random_policy

LATENTS: dict[str, Field] = {"deter": ((3,), np.float32), "stoch": ((2,), np.uint8)}
SEED = 5


@pytest.fixture(autouse=True)
def _sample_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sample_envs:NAME` as an environment id."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "envs")


class Setup:
    """A collector and what it works on."""

    def __init__(self, config: EnvConfig, latents: dict[str, Field] | None = None, seed: int = SEED) -> None:
        self.envs: Envs = make_vector_env(config, config.num_envs)
        self.spec = env_spec(self.envs.single_observation_space, self.envs.single_action_space)
        self.replay = Replay(record_fields(self.spec, latents or {}), config.num_envs, 10_000, 4)
        self.collector = Collector(self.envs, self.spec, self.replay, seed)

    def records(self) -> list[Arrays]:
        """All that the replay holds, one dict of arrays [steps, ...] per stream."""
        arrays, _ = self.replay.state_dict()
        ends = np.cumsum(arrays["written"])[:-1]
        parts = {name: np.split(arrays[f"field.{name}"], ends) for name in self.replay.fields}
        return [{name: parts[name][i] for name in parts} for i in range(self.replay.num_streams)]


@pytest.fixture
def setups() -> Iterator[Any]:
    """Makes Setups whose environments are closed at the end."""
    made: list[Setup] = []

    def make(name: str, num_envs: int = 2, latents: dict[str, Field] | None = None, **options: Any) -> Setup:
        made.append(Setup(EnvConfig(id=name, num_envs=num_envs, **options), latents))
        return made[-1]

    yield make
    for setup in made:
        setup.envs.close()


def reflex(spec: EnvSpec) -> ActFunction:
    """A deterministic policy without memory: a hash of the observation decides."""

    def policy(observations: Arrays, is_first: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        flat = np.concatenate([values.astype(np.float64) for values in observations.values()], axis=1)
        mixed = np.abs(np.sin(flat.sum(axis=1, keepdims=True) * 1e3 + np.arange(spec.action.shape[0])))
        if spec.action.is_discrete:
            return (mixed * np.array(spec.action.sizes) * 0.999).astype(np.int32), {}
        return (2.0 * mixed - 1.0).astype(np.float32), {}

    return policy


def with_latents(policy: ActFunction) -> ActFunction:
    """Adds latents that are never zero."""

    def wrapped(observations: Arrays, is_first: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
        action, _ = policy(observations, is_first)
        n = len(is_first)
        return action, {"deter": np.full((n, 3), 1.5, np.float32), "stoch": np.full((n, 2), 7, np.uint8)}

    return wrapped


def plain_records(config: EnvConfig, stream: int, ticks: int) -> list[Arrays]:
    """One stream written down step by step, as the data contract says, with one environment and no vectors."""
    env = make_env(config)
    spec = env_spec(env.observation_space, env.action_space)
    policy = reflex(spec)
    records, episode = [], 0
    observation, reward, is_first = env.reset(seed=episode_seed(SEED, Purpose.training, stream, 0))[0], 0.0, True
    for _ in range(ticks):
        action = policy({name: values[None] for name, values in observation.items()}, np.array([is_first]))[0][0]
        flags = {"is_first": is_first, "is_last": False, "is_terminal": False}
        records.append({**observation, "reward": reward, "action": action, **flags})
        observation, reward, terminated, truncated, _ = env.step(action)
        is_first = terminated or truncated
        if is_first:
            flags = {"is_first": False, "is_last": True, "is_terminal": terminated}
            records.append({**observation, "reward": reward, "action": np.zeros_like(action), **flags})
            episode += 1
            seed = episode_seed(SEED, Purpose.training, stream, episode)
            observation, reward = env.reset(seed=seed)[0], 0.0
    return records


@pytest.mark.parametrize(
    "config",
    [
        EnvConfig(id="CartPole-v1"),
        EnvConfig(id="CartPole-v1", action_repeat=2, time_limit=15),
        EnvConfig(id="Pendulum-v1", time_limit=23),
        EnvConfig(id="Acrobot-v1", time_limit=40),
        EnvConfig(id="sample_envs:Mixed-v0"),
    ],
    ids=lambda config: f"{config.id}-{config.time_limit}",
)
def test_records_are_what_the_contract_says(setups: Any, config: EnvConfig) -> None:
    setup = setups(config.id, 3, action_repeat=config.action_repeat, time_limit=config.time_limit)
    ticks = 120
    episodes = setup.collector.collect(reflex(setup.spec), ticks)
    lasts = 0
    for stream, records in enumerate(setup.records()):
        expected = plain_records(config, stream, ticks)
        for name, values in records.items():
            wanted = np.stack([np.asarray(step[name]) for step in expected]).astype(values.dtype)
            np.testing.assert_array_equal(values, wanted, strict=True)
        lasts += int(records["is_last"].sum())
        mine = [episode for episode in episodes if episode.stream == stream]
        assert len(mine) == records["is_last"].sum()
        bounds = [0, *(records["is_last"].nonzero()[0] + 1).tolist()]
        for episode, begin, end in zip(mine, bounds, bounds[1:], strict=False):
            assert episode.length == end - begin - 1
            np.testing.assert_allclose(episode.return_, records["reward"][begin:end].sum(dtype=np.float64), rtol=1e-5)
    assert lasts == len(episodes) == setup.collector.episodes > 0
    assert setup.collector.env_steps == 3 * ticks
    assert all(episode.env_step % 3 == 0 for episode in episodes)


def test_a_time_limit_is_last_but_not_terminal(setups: Any) -> None:
    setup = setups("Pendulum-v1", time_limit=6)
    setup.collector.collect(reflex(setup.spec), 13)
    for records in setup.records():
        assert records["is_last"].nonzero()[0].tolist() == [6, 13]
        assert records["is_first"].nonzero()[0].tolist() == [0, 7, 14]
        assert not records["is_terminal"].any()
        assert not records["reward"][records["is_first"]].any()
        assert not records["action"][records["is_last"]].any()


def test_latents_are_stored_except_at_the_end_of_an_episode(setups: Any) -> None:
    setup = setups("CartPole-v1", latents=LATENTS)
    setup.collector.collect(with_latents(reflex(setup.spec)), 50)
    setup.collector.collect(random_policy(setup.spec.action, np.random.default_rng(0)), 3)
    for records in setup.records():
        last = records["is_last"]
        assert last.any()
        last = last | (np.arange(len(last)) >= len(last) - 3 - last[-3:].sum())
        assert (records["deter"][~last] == 1.5).all()
        assert (records["stoch"][~last] == 7).all()
        assert not records["deter"][last].any()
        assert not records["stoch"][last].any()


def test_latents_without_a_field_are_not_stored(setups: Any) -> None:
    setup = setups("CartPole-v1", latents={"stoch": LATENTS["stoch"]})
    setup.collector.collect(with_latents(reflex(setup.spec)), 3)
    assert all((records["stoch"] == 7).all() for records in setup.records())


def test_the_policy_sees_is_first_and_arrays_that_stay(setups: Any) -> None:
    setup = setups("CartPole-v1")
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    copies: list[tuple[np.ndarray, np.ndarray]] = []
    inner = reflex(setup.spec)

    def policy(observations: Arrays, is_first: np.ndarray) -> Any:
        seen.append((observations["state"], is_first))
        copies.append((observations["state"].copy(), is_first.copy()))
        return inner(observations, is_first)

    setup.collector.collect(policy, 60)
    for kept, copied in zip(seen, copies, strict=True):
        np.testing.assert_array_equal(kept[0], copied[0])
        np.testing.assert_array_equal(kept[1], copied[1])
    firsts = np.stack([is_first for _, is_first in copies])
    assert firsts.dtype == np.bool_
    for stream, records in enumerate(setup.records()):
        np.testing.assert_array_equal(firsts[:, stream], records["is_first"][~records["is_last"]])


def test_subprocesses_collect_the_same(setups: Any) -> None:
    both = [setups("sample_envs:Mixed-v0", vectorization=vectorization) for vectorization in Vectorization]
    for setup in both:
        setup.collector.collect(reflex(setup.spec), 40)
    for left, right in zip(both[0].records(), both[1].records(), strict=True):
        for name, values in left.items():
            np.testing.assert_array_equal(values, right[name], strict=True)


@pytest.mark.parametrize("vectorization", list(Vectorization))
@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("raise", EnvironmentFault, "after environment step 8: .* raised RuntimeError in step .*: the gears are stuck"),
        ("nan_observation", UserError, "after environment step 8: .*: observation 'count' must be finite"),
        ("inf_reward", UserError, "after environment step 8: .*: reward must be finite, is inf"),
    ],
)
def test_a_fault_leaves_replay_and_state_as_before_the_tick(
    setups: Any, vectorization: Vectorization, what: str, error: type[UserError], message: str
) -> None:
    options = {"latents": LATENTS, "vectorization": vectorization}
    faulty = setups("sample_envs:Faulty-v0", kwargs={"what": what, "at": 5}, **options)
    policy = with_latents(reflex(faulty.spec))
    with pytest.raises(error, match=message) as caught:
        faulty.collector.collect(policy, 20)
    assert caught.value.exit_code == 1
    assert [len(records["reward"]) for records in faulty.records()] == [4, 4]
    assert (faulty.collector.env_steps, faulty.collector.episodes) == (8, 0)
    healthy, direct = (setups("sample_envs:Faulty-v0", latents=LATENTS) for _ in range(2))
    healthy.replay.load_state_dict(*faulty.replay.state_dict())
    assert healthy.collector.load_state_dict(*faulty.collector.state_dict()) == (True, "")
    healthy.collector.collect(policy, 2)
    direct.collector.collect(policy, 6)
    for left, right in zip(healthy.records(), direct.records(), strict=True):
        for name, values in left.items():
            np.testing.assert_array_equal(values, right[name], strict=True)


def test_a_fault_while_resetting(setups: Any) -> None:
    setup = setups("sample_envs:Faulty-v0", kwargs={"what": "raise_in_reset", "at": 3, "length": 3})
    with pytest.raises(EnvironmentFault, match=r"after environment step 6: .* raised RuntimeError in reset .*: the door"):
        setup.collector.collect(reflex(setup.spec), 5)
    assert setup.collector.env_steps == 4
    assert all(not records["is_last"].any() and len(records["is_last"]) == 2 for records in setup.records())


@pytest.mark.parametrize(
    ("name", "vectorization", "before"),
    [
        ("CartPole-v1", Vectorization.sync, 0),
        ("CartPole-v1", Vectorization.sync, 37),
        ("Pendulum-v1", Vectorization.sync, 37),
        ("Acrobot-v1", Vectorization.sync, 37),
        ("sample_envs:Mixed-v0", Vectorization.sync, 37),
        ("sample_envs:Mixed-v0", Vectorization.subprocess, 37),
    ],
)
def test_resumed_is_the_same_run(setups: Any, name: str, vectorization: Vectorization, before: int) -> None:
    whole, first = (setups(name, time_limit=50) for _ in range(2))
    second = setups(name, time_limit=50, vectorization=vectorization)
    policy = reflex(whole.spec)
    whole.collector.collect(policy, before)
    expected = whole.collector.collect(policy, 60)
    first.collector.collect(policy, before)
    arrays, info = first.collector.state_dict()
    second.collector.collect(policy, 3)
    second.replay.load_state_dict(*first.replay.state_dict())
    assert second.collector.load_state_dict(arrays, json.loads(json.dumps(info))) == (True, "")
    assert second.collector.collect(policy, 60) == expected
    assert second.collector.episodes == whole.collector.episodes
    for left, right in zip(second.records(), whole.records(), strict=True):
        for field, values in left.items():
            np.testing.assert_array_equal(values, right[field], strict=True)


def test_saved_state_is_a_copy(setups: Any) -> None:
    setup = setups("CartPole-v1")
    setup.collector.collect(reflex(setup.spec), 10)
    arrays, _ = setup.collector.state_dict()
    kept = {name: values.copy() for name, values in arrays.items()}
    setup.collector.collect(reflex(setup.spec), 60)
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, kept[name])


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_random_environment_is_continued_and_says_so(setups: Any, what: str) -> None:
    first, second = (setups("sample_envs:Restless-v0", kwargs={"what": what}) for _ in range(2))
    policy = reflex(first.spec)
    first.collector.collect(policy, 5)
    second.replay.load_state_dict(*first.replay.state_dict())
    exact, reason = second.collector.load_state_dict(*first.collector.state_dict())
    assert not exact
    assert reason.count("differs after the same seed and 5 actions") == 2
    assert reason.startswith("stream 0: ")
    second.collector.collect(policy, 4)
    for records in second.records():
        assert records["is_last"].nonzero()[0].tolist() == [5]
        assert records["is_first"].nonzero()[0].tolist() == [0, 6]
        assert not records["is_terminal"].any()
        assert len(records["is_last"]) == 10
    assert second.collector.env_steps == 18


def test_another_number_of_streams_is_refused(setups: Any) -> None:
    with pytest.raises(UserError, match=r"env.num_envs=3, but the saved run has 2 environment streams"):
        setups("CartPole-v1", 3).collector.load_state_dict(*setups("CartPole-v1", 2).collector.state_dict())


def test_random_policy_is_uniform_and_reproducible() -> None:
    draws = random_policy(ActionSpec(sizes=(2, 3)), np.random.default_rng(0))({}, np.zeros(6000, np.bool_))[0]
    assert draws.dtype == np.int32
    for column, size in enumerate((2, 3)):
        np.testing.assert_allclose(np.bincount(draws[:, column]) / 6000, 1 / size, atol=0.03)
    policies = [random_policy(ActionSpec(dimensions=2), np.random.default_rng(1)) for _ in range(2)]
    left, right = (policy({}, np.zeros(4000, np.bool_))[0] for policy in policies)
    np.testing.assert_array_equal(left, right)
    assert left.dtype == np.float32
    assert left.shape == (4000, 2)
    assert np.abs(left).max() <= 1.0
    np.testing.assert_allclose(np.quantile(left, [0.25, 0.5, 0.75]), [-0.5, 0.0, 0.5], atol=0.05)


def test_episode_seeds_differ() -> None:
    seeds = {
        episode_seed(seed, purpose, stream, episode)
        for seed in range(2)
        for purpose in Purpose
        for stream in range(4)
        for episode in range(50)
    }
    assert len(seeds) == 800
    assert max(seeds) < 2**31


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_evaluation_plays_the_given_episodes_whatever_the_number_of_streams(num_envs: int) -> None:
    envs = make_vector_env(EnvConfig(), num_envs)
    spec = env_spec(envs.single_observation_space, envs.single_action_space)
    result = play_episodes(envs, reflex(spec), 7, SEED, longest=1_000)
    policy, lengths = reflex(spec), []
    for episode in range(7):
        env = gym.make("CartPole-v1")
        observation, _ = env.reset(seed=episode_seed(SEED, Purpose.evaluation, 0, episode))
        over, length = False, 0
        while not over:
            action = policy({"state": np.asarray(observation)[None]}, np.zeros(1, np.bool_))[0]
            observation, _, terminated, truncated, _ = env.step(int(action[0, 0]))
            over, length = terminated or truncated, length + 1
        lengths.append(length)
    assert len(set(lengths)) > 1
    assert result.lengths.tolist() == lengths
    np.testing.assert_array_equal(result.returns, np.array(lengths, np.float64), strict=True)
    envs.close()


def test_evaluation_stops_at_an_invalid_number() -> None:
    envs = make_vector_env(EnvConfig(id="sample_envs:Faulty-v0", kwargs={"what": "nan_observation"}), 2)
    spec = env_spec(envs.single_observation_space, envs.single_action_space)
    with pytest.raises(UserError, match="observation 'count' must be finite"):
        play_episodes(envs, reflex(spec), 3, SEED, longest=1_000)


def test_evaluations_in_the_environments_of_the_training(setups: Any) -> None:
    setup = setups("sample_envs:Faulty-v0", kwargs={"length": 30})
    policy = reflex(setup.spec)
    setup.collector.collect(policy, 7)
    result = play_episodes(setup.envs, policy, 3, SEED, longest=1_000)
    assert result.lengths.tolist() == [30, 30, 30]
    setup.collector.begin_again()
    setup.collector.collect(policy, 2)
    assert setup.collector.env_steps == 18
    for records in setup.records():
        assert records["is_first"].nonzero()[0].tolist() == [0, 8]
        assert records["is_last"].nonzero()[0].tolist() == [7]
        assert not records["is_terminal"].any()
        assert records["count"][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
