"""A trained agent from Python."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from jax import export

from dreamerjax import Agent
from dreamerjax.agent.policy import Policy
from dreamerjax.agent.state import acting_params
from dreamerjax.core.errors import UserError
from dreamerjax.envs.spaces import action_converter, action_spec, actions_of
from tests.e2e import trials
from tests.e2e.test_run import Cartpole

EXAMPLE = Path(__file__).parents[2] / "examples" / "act.py"


@pytest.fixture(scope="module")
def agent(reference: Path) -> Agent:
    return Agent.load(reference)


def test_example(cartpole: Cartpole, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["act.py", str(cartpole[0])])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    word, number = capsys.readouterr().out.split()
    assert word == "return"
    assert 1 <= int(number) <= 500


def play(agent: Agent, steps: int, *, greedy: bool) -> list[int]:
    """The actions of the first `steps` steps of an episode that does not end by itself."""
    env = gym.make(agent.config.env.id).unwrapped
    observation, _ = env.reset(seed=3)
    state, actions = None, []
    for _ in range(steps):
        action, state = agent.act(observation, state, greedy=greedy)
        assert env.action_space.contains(action)
        actions.append(int(action))
        observation, *_ = env.step(action)
    return actions


def test_acts_as_the_policy_of_an_evaluation_does(agent: Agent) -> None:
    """One environment at a time or as one of a vector: the same greedy actions."""
    env = gym.make(agent.config.env.id).unwrapped
    observation, _ = env.reset(seed=3)
    policy, is_first, actions = Policy(agent.networks, agent.params, 1, 0, greedy=True), np.array([True]), []
    for _ in range(20):
        action, _ = policy({"state": observation[None]}, is_first)
        actions.append(int(action[0, 0]))
        observation, *_ = env.step(actions[-1])
        is_first = np.array([False])
    assert play(agent, 20, greedy=True) == actions


def test_sampled_actions_are_those_of_the_seed(reference: Path, agent: Agent) -> None:
    first = play(agent, 40, greedy=False)
    assert play(agent, 40, greedy=False) == first
    assert play(Agent.load(reference, seed=1), 40, greedy=False) != first
    assert set(first) == {0, 1}


def test_a_state_can_be_used_again(agent: Agent) -> None:
    observation = np.ones(4, np.float32)
    _, state = agent.act(observation)
    before = jax.tree.map(np.array, state[0])
    _, one = agent.act(2 * observation, state)
    _, other = agent.act(2 * observation, state)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(jax.tree.leaves(before), jax.tree.leaves(state[0]), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one[0].latent.deter, state[0].latent.deter)


def test_a_batch_of_environments_gets_what_a_policy_for_them_does(agent: Agent) -> None:
    """Over three steps of a gymnasium.vector.VectorEnv, one of which an environment begins anew."""
    envs = gym.make_vec(agent.config.env.id, num_envs=3, vectorization_mode="sync")
    policy, state = Policy(agent.networks, agent.params, 3, 0, greedy=False), None
    observations, _ = envs.reset(seed=3)
    for is_first in ([True, True, True], [False, True, False], [False, False, False]):
        actions, state = agent.act_batch(observations, state, is_first, greedy=False)
        expected, _ = policy({"state": observations}, np.array(is_first))
        assert envs.action_space.contains(actions)
        assert actions.tolist() == expected[:, 0].tolist()
        observations, *_ = envs.step(actions)
    envs.close()
    observation = observations[0]
    assert agent.act_batch(observation[None])[0].tolist() == [agent.act(observation)[0]]


@pytest.mark.parametrize(
    ("observations", "first", "said"),
    [
        (np.zeros((2, 4), np.float32), None, "observations are of [2] environments, the state of [3]"),
        (np.zeros((3, 5), np.float32), None, "this observation is not of trial_envs:Trial-v0: "),
        (np.float32(1), None, "observations are of [0] environments"),
        (np.zeros((3, 4), np.float32), [True], "is_first has shape (1,), not (3,)"),
    ],
)
def test_a_wrong_batch_is_one_line(agent: Agent, observations: np.ndarray, first: list[bool] | None, said: str) -> None:
    _, state = agent.act_batch(np.zeros((3, 4), np.float32))
    with pytest.raises(UserError) as caught:
        agent.act_batch(observations, state, first)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_evaluates_as_the_command_does(agent: Agent, tmp_path: Path) -> None:
    done = trials.run_command("evaluate", f"run={agent.run.path}", "episodes=5", f"output={tmp_path / 'e.json'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = agent.evaluate(5)
    assert json.loads((tmp_path / "e.json").read_text())["returns"] == result.returns.tolist()
    assert (result.lengths > 0).all()


def test_checkpoints_are_chosen_by_name(reference: Path, agent: Agent) -> None:
    assert agent.env_step == 120
    assert Agent.load(reference, checkpoint="best").env_step == trials.summary(reference)["best_step"]
    assert Agent.load(reference.name, root=str(reference.parent)).env_step == 120


def test_parameters_are_the_checkpoints(reference: Path, agent: Agent) -> None:
    arrays = trials.latest(reference).arrays["train"]
    saved = acting_params({**arrays["average"], "statistics": arrays["statistics"]})
    jax.tree.map(np.testing.assert_array_equal, agent.params, saved)


def test_what_cannot_be_loaded_is_one_line(copy: Path) -> None:
    with pytest.raises(UserError, match="no run at nowhere"):
        Agent.load("nowhere")
    with pytest.raises(UserError, match=r"no checkpoint in .*/bets"):
        Agent.load(copy, checkpoint="bets")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("deter: 16", "deter: 32"))
    with pytest.raises(UserError, match=r"another model family: model\.deter is 16 there and 32 here"):
        Agent.load(copy)


@pytest.mark.parametrize("greedy", [True, False])
def test_an_exported_policy_acts_as_the_agent_does(agent: Agent, tmp_path: Path, greedy: bool) -> None:
    """With the loader of docs/python.md, on another number of environments than one."""
    path = agent.export(tmp_path / "policy.bin", greedy=greedy)
    policy = export.deserialize(bytearray(path.read_bytes()))
    (_, _, exported, *_), _ = jax.tree.unflatten(policy.in_tree, policy.in_avals)
    exported = jax.tree.map(lambda leaf: np.zeros((3, *leaf.shape[1:]), leaf.dtype), exported)
    rng, state = np.random.default_rng(0), None
    for number in range(4):
        observations, first = rng.normal(size=(3, 4)).astype(np.float32), np.full(3, number == 0)
        actions, state = agent.act_batch(observations, state, greedy=greedy)
        own, exported = policy.call({"state": observations}, first, exported, np.uint32(0), np.uint32(number))
        assert np.asarray(own).tolist() == actions.tolist()
        np.testing.assert_allclose(exported["deter"], state[0].latent.deter, atol=1e-5)
    with pytest.raises(ValueError, match="4"):
        policy.call({"state": np.zeros((3, 5), np.float32)}, first, exported, np.uint32(0), np.uint32(0))


def test_an_export_that_cannot_be_written_is_one_line(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"policy\.bin") as caught:
        agent.export(tmp_path / "nowhere" / "policy.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3, start=-1),
        gym.spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[1, 0], [0, 7]])),
        gym.spaces.Box(np.array([[-3.0, 0.0]]), np.array([[1.0, 10.0]]), dtype=np.float64),
    ],
)
def test_traced_actions_are_converted_as_single_ones(space: gym.Space[Any]) -> None:
    spec = action_spec(space)
    rng = np.random.default_rng(0)
    actions = rng.integers(0, spec.sizes, (5, len(spec.sizes))) if spec.sizes else rng.normal(size=(5, *spec.shape))
    converted = jax.jit(partial(actions_of, space))(actions)
    singles = [action_converter(space)(action) for action in actions]
    np.testing.assert_allclose(converted, np.array(singles), rtol=1e-6)
