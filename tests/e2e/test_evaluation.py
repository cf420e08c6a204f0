"""The evaluate command on finished runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamerjax import Agent, evaluate, train
from dreamerjax.config.cli import main
from dreamerjax.visualization.video import count_frames, has_mp4
from tests.e2e import trials
from tests.report.test_report import written
from tests.tensorboard import values


def evaluate_here(*arguments: str) -> int:
    """The command in this process."""
    return main(evaluate.run, list(arguments), schema=evaluate.EvaluateConfig)


@pytest.fixture(scope="module")
def evaluated(poles: Path) -> subprocess.CompletedProcess[str]:
    """A run that was trained on two devices, evaluated in a process with one."""
    return trials.run_command("evaluate", f"run={poles}", "episodes=5", cwd=poles.parent)


def test_command(poles: Path, evaluated: subprocess.CompletedProcess[str]) -> None:
    assert (evaluated.returncode, evaluated.stderr) == (0, "")
    report = json.loads((poles / "evaluation_latest_greedy.json").read_text())
    returns = np.array(report["returns"])
    assert len(returns) == report["episodes"] == 5
    low, high = report["return_mean_95"]
    assert low <= report["return_mean"] <= high
    assert (report["return_mean"], report["return_std"]) == (returns.mean(), returns.std())
    assert (report["return_min"], report["return_max"]) == (returns.min(), returns.max())
    assert (report["run"], report["env_step"], report["env_id"]) == (str(poles), 120, "CartPole-v1")
    assert (
        f"return over 5 episodes: mean {returns.mean():.2f} (95% interval {low:.2f} to {high:.2f}), "
        f"std {returns.std():.2f}, min {returns.min():.2f}, max {returns.max():.2f}"
    ) in evaluated.stdout
    assert f"CartPole-v1, greedy policy of {poles}, latest checkpoint (environment step 120)" in evaluated.stdout


def test_an_agent_of_the_zoo_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate_here("zoo:cartpole", "episodes=5") == 0
    assert json.loads(Path("runs/zoo_cartpole/evaluation_latest_greedy.json").read_text())["return_mean"] > 440
    assert "zoo_cartpole, environment step 2" in repr(Agent.load("zoo:cartpole"))
    assert main(train.run, ["resume=zoo:cartpole"]) == 2
    assert "zoo_cartpole holds an agent without its replay" in capsys.readouterr().err


def test_the_number_of_devices_and_streams_changes_nothing(
    poles: Path, evaluated: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert evaluated.returncode == 0
    alone = json.loads((poles / "evaluation_latest_greedy.json").read_text())
    output = tmp_path / "two.json"
    assert evaluate_here(f"run={poles}", "episodes=5", "num_envs=5", f"output={output}") == 0
    assert json.loads(output.read_text()) == alone


@pytest.mark.parametrize(("checkpoint", "policy"), [("latest", "sampled"), ("best", "greedy")])
def test_choices(reference: Path, tmp_path: Path, checkpoint: str, policy: str) -> None:
    output = tmp_path / "report.json"
    arguments = [f"run={reference}", "episodes=4", "num_envs=2", f"output={output}"]
    assert evaluate_here(*arguments, f"checkpoint={checkpoint}", f"policy={policy}") == 0
    report = json.loads(output.read_text())
    assert (report["checkpoint"], report["policy"], report["episodes"]) == (checkpoint, policy, 4)
    summary = trials.summary(reference)
    assert report["env_step"] == (summary["best_step"] if checkpoint == "best" else summary["env_steps"])


@pytest.mark.parametrize(("policy", "episodes"), [("sampled", 4), ("greedy", 16)])
def test_gap(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, episodes: int) -> None:
    output = tmp_path / "report.json"
    assert evaluate_here(f"run={copy}", "episodes=4", "gap=true", f"policy={policy}", f"output={output}") == 0
    report, out = json.loads(output.read_text()), capsys.readouterr().out
    extra = "extra " if policy == "greedy" else ""
    assert f"states of {episodes} {extra}episodes of the sampled policy" in out
    assert f"imagined {report['gap']['return_imagined']:.2f}, real {report['gap']['return_real']:.2f}" in out
    written = sorted(path.name for path in (copy / "media").glob("*_000000120.*"))
    assert written == ["dream_reality_000000120.json", "dream_reality_000000120.png", "open_loop_000000120.png"]
    assert all(f"{copy / 'media' / name}" in out for name in written)


def test_videos(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("trial_envs.Trial.metadata", {"render_modes": ["rgb_array"]})
    assert evaluate_here(f"run={copy}", "episodes=1", "video=true", "dream=true", f"output={tmp_path / 'report.json'}") == 0
    suffix = "mp4" if has_mp4() else "gif"
    episode, dream = (copy / "media" / f"{kind}_000000120_latest_greedy.{suffix}" for kind in ("episode", "dream"))
    assert f"videos:\n  {episode}\n  {dream}\n" in capsys.readouterr().out
    length = round(json.loads((tmp_path / "report.json").read_text())["length_mean"])
    assert count_frames(episode, 25.0) == length + 1
    assert count_frames(dream, 10.0) == length + 1
    assert {value.tag for _, value in values(copy / "media")} == {"video/episode", "video/dream"}
    assert ("video/mp4" if has_mp4() else "image/gif") in written(copy).sources


def test_a_film_is_closed_where_playing_fails(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trial_envs.Trial.metadata", {"render_modes": ["rgb_array"]})
    closed: list[bool] = []
    monkeypatch.setattr(evaluate.Film, "close", lambda film: closed.append(True))
    monkeypatch.setattr(evaluate.Evaluator, "play", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate.run(evaluate.EvaluateConfig(run=str(copy), episodes=1, video=True))
    assert closed == [True]


def test_what_cannot_be_drawn_is_said_before_anything_is_played(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_here(f"run={copy}", "video=true") == 2
    err = capsys.readouterr().err
    assert err == "error: video=true: trial_envs:Trial-v0 cannot be drawn: it has no render mode, and a video needs rgb_array\n"
    assert not (copy / "evaluation_latest_greedy.json").exists()


def test_a_dream_that_cannot_be_written(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "media")
    (copy / "media").write_text("in the way")
    assert evaluate_here(f"run={copy}", "episodes=2", "dream=true") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: cannot write {copy}/media/dream_000000120_latest_greedy.")
    assert err.count("\n") == 1


def test_of_a_run_named_latest(copy: Path) -> None:
    assert evaluate_here("run=latest", f"root={copy.parent}", "episodes=2") == 0
    assert json.loads((copy / "evaluation_latest_greedy.json").read_text())["run"] == str(copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "no run at nowhere"),
        ([], "run"),
        (["run=RUN", "episodes=0"], "episodes must be at least 1, not 0"),
        (["run=RUN", "seed=-1"], "seed must be at least 0 and at most 2147483647, not -1"),
        (["RUN", "another"], "one run at a time, not "),
        (["run=RUN", "num_envs=0"], "num_envs must be at least 1, not 0"),
        (["run=RUN", "checkpoint=newest"], "checkpoint"),
        (["run=RUN", "epsiodes=3"], "epsiodes"),
        (["run=RUN", "video=maybe"], "video"),
    ],
)
def test_mistakes_are_one_line(reference: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert evaluate_here(*(argument.replace("RUN", str(reference)) for argument in arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_without_a_best_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trials.run_here(tmp_path, trials.TRIAL, *trials.RANDOM_ONLY) == 0
    run = trials.only_run(tmp_path)
    assert evaluate_here(f"run={run}", "checkpoint=best", "dream=true") == 2
    assert f"no checkpoint in {run}/checkpoints/best" in capsys.readouterr().err


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_a_signal_ends_it_at_once_and_changes_nothing(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], vectorization: str
) -> None:
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("vectorization: sync", f"vectorization: {vectorization}"))
    before = trials.content(copy)
    play = evaluate.evaluate

    def signalled(*arguments: Any) -> None:
        threading.Timer(2.0, os.kill, [os.getpid(), signal.SIGTERM]).start()
        play(*arguments)

    monkeypatch.setattr(evaluate, "evaluate", signalled)
    assert evaluate_here(f"run={copy}", "episodes=1000000", "num_envs=2") == 143
    assert capfd.readouterr() == ("", "")
    assert trials.content(copy) == before
    assert not multiprocessing.active_children()
