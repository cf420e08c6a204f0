"""The environments of the optional extras as a group, with the real packages: spaces, seeds, names, what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from dreamerjax import check_env
from dreamerjax.config.cli import main
from dreamerjax.config.composition import config_directory, load_config
from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.core.errors import UserError
from dreamerjax.envs import Stepper, env_spec, make_vector_env
from dreamerjax.envs.extras import EXTRAS
from dreamerjax.envs.factory import find_registration
from tests.envs.extra_envs import make, need, play, same

PACKAGES = {"atari": "ale_py", "crafter": "crafter", "dmc": "dm_control", "minatar": "minatar", "minigrid": "minigrid"}
PICTURES = ("atari/Pong", "crafter/reward", "minigrid/DoorKey-5x5")
IDS = ("dmc/cartpole_swingup", "dmc/reacher_easy", "minatar/Asterix", *PICTURES)


def picture(height: int, width: int) -> Box:
    return Box(0, 255, (height, width, 3), np.uint8)


def numbers(*shape: int) -> Box:
    return Box(-np.inf, np.inf, shape, np.float64)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "observation", "action", "limit"),
    [
        ("atari/Pong", {}, picture(64, 64), Discrete(6), 27_000),
        ("atari/MsPacman", {"screen_size": 84, "full_action_space": True}, picture(84, 84), Discrete(18), 27_000),
        ("crafter/reward", {}, picture(64, 64), Discrete(17), 10_000),
        ("crafter/noreward", {"size": [96, 72]}, picture(72, 96), Discrete(17), 10_000),
        (
            "dmc/walker_walk",
            {},
            Dict({"orientations": numbers(14), "height": numbers(), "velocity": numbers(9)}),
            Box(-1.0, 1.0, (6,), np.float64),
            1000,
        ),
        ("minatar/Breakout", {}, Box(0, 1, (10, 10, 4), np.bool_), Discrete(3), 1000),  # type: ignore[arg-type]
        ("minigrid/Empty-5x5", {}, Dict({"direction": Discrete(4), "image": picture(63, 63)}), Discrete(7), None),
        (
            "minigrid/MultiRoom-N4-S5",
            {"tile_size": 12},
            Dict({"direction": Discrete(4), "image": picture(84, 84)}),
            Discrete(7),
            None,
        ),
    ],
)
def test_spaces(env_id: str, kwargs: dict[str, Any], observation: Any, action: Any, limit: int | None) -> None:
    env = make(env_id, **kwargs)
    assert (env.observation_space, env.action_space) == (observation, action)
    assert env.spec is not None
    assert env.spec.max_episode_steps == limit
    first, *steps = play(env, 0, 5)
    assert all(observation.contains(seen) for seen in (first, *(step[0] for step in steps)))
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_fixed_by_its_seed_and_actions(env_id: str) -> None:
    one, other = make(env_id), make(env_id)
    seen = play(one, 7, 150)
    play(other, 8, 20)
    assert same(seen, play(other, 7, 150))
    assert not same(seen[:21], play(one, 8, 20))
    assert same(seen, play(one, 7, 150))
    for env in (one, other):
        env.close()


@pytest.mark.parametrize("env_id", ["dmc/reacher_easy", *PICTURES])
def test_subprocesses_step_as_this_process_does(env_id: str) -> None:
    need(env_id)
    seen = []
    for vectorization in Vectorization:
        envs = make_vector_env(EnvConfig(id=env_id, vectorization=vectorization), 2)
        stepper, spec = Stepper(envs), env_spec(envs.single_observation_space, envs.single_action_space).action
        action = np.zeros((2, *spec.shape), spec.dtype)
        seen.append([stepper.reset(np.ones(2, np.bool_), [3, 4], 0), *(stepper.step(action, step) for step in range(5))])
        envs.close()
    assert same(*seen)


@pytest.mark.parametrize(
    ("env_id", "near"),
    [
        ("atari/pong", "Pong"),
        ("crafter/rewards", "reward"),
        ("dmc/cartpole_swing_up", "cartpole_swingup"),
        ("minatar/breakout", "Breakout"),
        ("minigrid/Empty-5x4", "Empty-5x5"),
    ],
)
def test_an_unknown_name_is_one_line_with_a_near_one(env_id: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    need(env_id)
    assert main(check_env.run, [f"env.id={env_id}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: env.id={env_id}: NameNotFound: ")
    assert line.endswith(f"Did you mean: `{near}`?")


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_one_line(extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    package = PACKAGES[extra]
    for name in [name for name in sys.modules if name.startswith((f"{package}.", f"dreamerjax.envs.extras.{extra}"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(check_env.run, [f"env.id={extra}/thing"]) == 2
    line = (
        f"error: env.id={extra}/thing: the package {package} is missing; install the extra: pip install 'dreamerjax[{extra}]'"
    )
    assert capsys.readouterr().err == f"{line}\n"


def test_a_broken_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise AttributeError("module 'mujoco' has no attribute 'x'")

    monkeypatch.setattr("dreamerjax.envs.extras.importlib.import_module", fail)
    with pytest.raises(UserError, match=r"^env.id=dmc/cartpole_balance: AttributeError: module 'mujoco' has no"):
        find_registration("dmc/cartpole_balance")


@pytest.mark.parametrize("overlay", sorted(path.stem for path in (config_directory() / "env").glob("*.yaml")))
def test_an_overlay_names_what_there_is(overlay: str) -> None:
    env_id = load_config([f"env={overlay}"]).env.id
    extra, slash, _ = env_id.partition("/")
    if slash:
        assert f"(extra: {extra})" in (config_directory() / "env" / f"{overlay}.yaml").read_text()
        need(env_id)
    assert find_registration(env_id).id == env_id


def test_nothing_is_imported_unasked() -> None:
    packages = [*PACKAGES.values(), "cv2"]
    code = (
        "import sys; from dreamerjax.config.schema import EnvConfig; from dreamerjax.envs import make_env; "
        "make_env(EnvConfig()); "
        f"sys.exit(any(name in sys.modules for name in {packages}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("env_id", IDS)
def test_jax_is_not_imported(env_id: str) -> None:
    need(env_id)
    code = (
        f"import sys, gymnasium; from dreamerjax.envs.factory import find_registration; find_registration({env_id!r});"
        f"gymnasium.make({env_id!r}).reset(seed=0); sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
