"""Training from Python: `dreamerjax.learn`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamerjax
from dreamerjax import UserError
from dreamerjax.config.composition import load_config
from tests.e2e import trials

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "model": {"deter": 16, "hidden": 8, "groups": 2, "classes": 4, "units": 8, "blocks": 2, "bins": {"count": 21}},
    "train": {"batch_size": 4, "batch_length": 8, "train_ratio": 8, "log_every": 5, "eval_episodes": 2, "random_steps": 40},
    "train.eval_every": 60,
    "train.checkpoint_every": 40,
    "behavior": {"horizon": 3, "starts": 0},
    "optim": {"warmup": 0, "model_lr": 1e-3},
    "env.num_envs": 2,
    "replay.capacity": 2000,
    "parallel.devices": 2,
}
QUICK = {**SETTINGS, "train.random_steps": 200}  # nothing to compile but the policy


Walk: Any = import_module("trial_envs").Walk  # a class that a worker process can import


def in_folder(path: Path, settings: dict[str, Any] = SETTINGS, **changes: Any) -> dict[str, Any]:
    return {**settings, "run.root": path, **changes}


def test_it_is_the_run_of_the_command_line(reference: Path, tmp_path: Path) -> None:
    logs: list[dict[str, float]] = []
    evaluations: list[dict[str, float]] = []
    agent = dreamerjax.learn(
        "trial_envs:Trial-v0", steps=120, on_log=logs.append, on_evaluation=evaluations.append, **in_folder(tmp_path)
    )
    run = trials.only_run(tmp_path)
    trials.assert_same_run(reference, run)
    assert agent.env_step == 120
    assert [record["env_step"] for record in evaluations] == [60, 120]
    assert len(logs) + len(evaluations) == len(trials.metrics(run))
    assert {"loss/decoder", "env_step", "update"} <= logs[-1].keys() or "episode/return" in logs[-1]
    action, _ = agent.act(np.zeros(4, np.float32))
    assert action in (0, 1)


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_a_class_given_from_python(tmp_path: Path, vectorization: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With several environments, with evaluation environments, and on resuming; the command line says what it lacks."""
    quick = in_folder(tmp_path, {name: value for name, value in QUICK.items() if name != "env.num_envs"})
    dreamerjax.learn(Walk, 80, env={"num_envs": 2, "kwargs": {"factor": 2.0}, "vectorization": vectorization}, **quick)
    run = trials.only_run(tmp_path)
    given = "env.id=python/trial_envs.Walk: this environment was given from Python"
    assert "id: python/trial_envs.Walk" in (run / "config.yaml").read_text()
    out = capsys.readouterr().out
    assert f"dreamerjax.learn(env, resume='{run}', train=dict(steps=160))" in out
    assert trials.resume_here(run, "train.steps=160") == 2
    assert capsys.readouterr().err.startswith(f"error: {given}")
    with pytest.raises(UserError, match=given):
        dreamerjax.Agent.load(run)
    with pytest.raises(UserError, match=r"is of the environment python/.*Walk, not CartPole-v1"):
        dreamerjax.learn("CartPole-v1", resume=run)
    agent = dreamerjax.learn(Walk, steps=160, resume=run)
    assert agent.env_step == 160
    assert ": exactly" in capsys.readouterr().out
    made = agent.make_env()
    assert isinstance(made, Walk)
    assert made.factor == 2.0


def test_a_function_evaluates_in_environments_of_its_own(tmp_path: Path) -> None:
    made: list[Any] = []

    def factory() -> Any:
        made.append(Walk())
        return made[-1]

    dreamerjax.learn(factory, steps=60, **in_folder(tmp_path))
    assert len(made) == 1 + 2 + 2 + 1  # looked at first, training, evaluation, the agent's
    assert "id: python/tests.e2e.test_learn.test_a_function_evaluates_in_environments_of_its_own.locals.factory" in (
        (trials.only_run(tmp_path) / "config.yaml").read_text()
    )


ONE = Walk()


def boom() -> Any:
    raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        (Walk(), {}, r"env is one Walk, but several are needed: give the class, or a function such as lambda: Walk\(...\)"),
        (3, {}, r"env must be an id, a gymnasium.Env class or a function that makes one, not 3"),
        (None, {}, "env is missing"),
        (boom, {}, r"env.id=python/tests.e2e.test_learn.boom: RuntimeError: no licence"),
        (list, {}, r"env.id=python/builtins.list: it made list, which is no gymnasium.Env"),
        (lambda: ONE, {}, r"env.id=python/tests.e2e.test_learn.lambda: it made the same environment twice"),
        ("CartPoel-v1", {}, r"env.id=CartPoel-v1: NameNotFound"),
        (None, {"env": "CartPoel-v1"}, r"env.id=CartPoel-v1: NameNotFound"),
        ("pendulum", {"env": {"sed": 1}}, r"unknown key env.sed"),
        ("CartPole-v1", {"train": {"sed": 1}}, r"unknown key train.sed; did you mean train.seed\?"),
        ("CartPole-v1", {"train": {"seed": "x"}}, r"train.seed must be a whole number, not x"),
        ("CartPole-v1", {"train": 3}, r"train is a section, not a value"),
        ("CartPole-v1", {"replay.online": 25}, r"replay.online must be true or false, not 25"),
        ("CartPole-v1", {"train.batch_length": 1}, r"train.batch_length must be at least 2, not 1"),
        ("CartPole-v1", {"size": "huge"}, r"size=huge: no such option"),
        ("CartPole-v1", {"resume": "nowhere"}, r"no run at nowhere"),
        ("CartPole-v1", {"population.seeds": [0, 1]}, r"population.* asks for several runs"),
        ("CartPole-v1", {"env": "Acrobot-v1"}, "env is given twice: 'CartPole-v1' and 'Acrobot-v1'"),
        ("CartPole-v1", {"on_log": 3}, "on_log must be a function of the metrics, not 3"),
        ("CartPole-v1", {"config": {"train": {}}}, "config must be a Config of dreamerjax, is of type dict"),
        ("CartPole-v1", {"config": load_config(), "size": "tiny"}, r"size= cannot be combined with config="),
    ],
)
def test_bad_input_is_one_line_and_no_run(tmp_path: Path, env: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dreamerjax.learn(env, **{"run.root": tmp_path / "runs", "env.num_envs": 2, **settings})
    assert not (tmp_path / "runs").exists()


def test_settings_are_those_of_the_command_line(tmp_path: Path) -> None:
    from dreamerjax.config.composition import config_from_settings

    words = ["size=tiny", "env=pendulum", "env.pixels=only", "env.kwargs.g=9.5", "train.steps=1e4", "behavior.lambda=0.9"]
    plain: dict[str, Any] = {
        "size": "tiny",
        "env": "pendulum",
        "env.pixels": "only",
        "env.kwargs": {"g": np.float32(9.5)},
        "train": {"steps": 1e4},
        "behavior": {"lambda": 0.9},
    }
    config = config_from_settings(plain)
    assert config == load_config(words)
    changed = config_from_settings({"train.seed": np.int64(3), "env.image_size": (32, 48)}, config)
    assert (changed.train.seed, changed.env.image_size, changed.env.id) == (3, [32, 48], "Pendulum-v1")
    assert config.train.seed == 0


def test_callbacks_can_end_a_run(tmp_path: Path) -> None:
    def stop(record: dict[str, float]) -> bool:
        return record["env_step"] < 60

    agent = dreamerjax.learn(Walk, steps=200, on_log=stop, **in_folder(tmp_path, QUICK))
    assert 60 <= agent.env_step < 100
    assert trials.summary(trials.only_run(tmp_path))["outcome"] == "interrupted"


def test_a_second_training_at_the_same_time_is_refused(tmp_path: Path) -> None:
    def again(record: dict[str, float]) -> None:
        dreamerjax.learn(Walk, steps=40, **in_folder(tmp_path, QUICK))

    with pytest.raises(UserError, match="another training of this process is in progress"):
        dreamerjax.learn(Walk, steps=200, on_log=again, **in_folder(tmp_path, QUICK))
    assert dreamerjax.learn(Walk, steps=40, **in_folder(tmp_path / "after", QUICK)).env_step == 40


def test_a_callback_that_fails_ends_the_run_and_all_is_saved(tmp_path: Path) -> None:
    def fail(record: dict[str, float]) -> None:
        if record["env_step"] > 50:
            raise ZeroDivisionError("by\nzero")

    with pytest.raises(UserError, match=r"^on_log raised ZeroDivisionError: by zero$"):
        dreamerjax.learn(Walk, steps=200, on_log=fail, **in_folder(tmp_path, QUICK))
    run = trials.only_run(tmp_path)
    assert trials.summary(run)["outcome"] == "failed"
    assert trials.latest(run).step > 50
    assert dreamerjax.learn(Walk, steps=100, resume=run).env_step == 100


def test_ctrl_c_returns_what_was_learned(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt(record: dict[str, float]) -> None:
        if record["env_step"] > 50 and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    sent: list[bool] = []
    agent = dreamerjax.learn(Walk, steps=500, on_log=interrupt, **in_folder(tmp_path, QUICK))
    assert 50 < agent.env_step < 500
    assert signal.getsignal(signal.SIGINT) is before
    assert trials.summary(trials.only_run(tmp_path))["outcome"] == "interrupted"


def test_an_interrupt_inside_a_callback_returns_too(tmp_path: Path) -> None:
    def interrupt(record: dict[str, float]) -> None:
        raise KeyboardInterrupt

    assert dreamerjax.learn(Walk, steps=500, on_log=interrupt, **in_folder(tmp_path, QUICK)).env_step < 100


def test_sigterm_saves_and_ends_the_program(tmp_path: Path) -> None:
    def terminate(record: dict[str, float]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        dreamerjax.learn(Walk, steps=500, on_log=terminate, **in_folder(tmp_path, QUICK))
    assert ended.value.code == 143
    assert trials.latest(trials.only_run(tmp_path)).step < 100


def test_trainings_one_after_the_other_also_outside_the_main_thread(tmp_path: Path) -> None:
    steps: list[int] = []

    def train() -> None:
        steps.append(dreamerjax.learn(Walk, steps=40, **in_folder(tmp_path, QUICK)).env_step)

    train()
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert steps == [40, 40]


SCRIPT = """
import sys, dreamerjax
print('jax' in sys.modules)
import jax
print(len(jax.devices()))
quick = {settings!r}
agent = dreamerjax.learn('CartPole-v1', steps=40, **{{**quick, 'parallel.devices': 0, 'run.root': 'runs'}})
print(len(jax.devices()), agent.env_step)
try:
    dreamerjax.learn('CartPole-v1', steps=40, **{{**quick, 'run.root': 'more'}})
except dreamerjax.UserError as error:
    print(error)
"""


def test_where_jax_is_in_use_already_its_devices_are_what_there_is(tmp_path: Path) -> None:
    environment = trials.environment(JAX_NUM_CPU_DEVICES="1")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(settings=QUICK)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["False", "1"], done.stderr
    assert "1 40" in lines
    assert lines[-1] == "parallel.devices=2, but JAX sees 1 (cpu); use 0 to 1"
    meta = json.loads((trials.only_run(tmp_path / "runs") / "meta.json").read_text())
    assert len(meta["devices"]) == 1
