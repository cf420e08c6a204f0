"""Experiments and run directories as they are after training, made without training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from dreamerjax.config.composition import config_to_yaml
from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.core.files import write_json
from dreamerjax.core.run_directory import KIND
from dreamerjax.experiment.checks import composed
from dreamerjax.experiment.design import Arm, Contrast, Experiment, Hypothesis, Metric, Status
from dreamerjax.experiment.states import ExperimentRun

RETURN = "eval/greedy/return_mean"
COMMIT = "0123456789abcdef"


def fake_run(
    path: Path,
    records: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a run directory; a record lacks what it does not name of `env_step`, `update` (a quarter) and `time` (a tenth)."""
    path.mkdir(parents=True)
    lines = []
    for record in records:
        step = record.get("env_step", 0)
        lines.append(json.dumps({"update": step // 4, "time": step / 10, **record}) + "\n")
    (path / "metrics.jsonl").write_text("".join(lines))
    settings = {"env": {"num_envs": 4, "kwargs": {}}, "train": {"seed": seed}, "run": {"name": path.name}, **(config or {})}
    settings["train"] = {**settings["train"], "seed": seed}
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    git = {"commit": COMMIT, "dirty": False}
    family = {"env.id": "CartPole-v1", "model.deter": 128}
    versions = {"python": "3.11", "jax": "0.10"}
    base = {"kind": KIND, "family": family, "git": git, "versions": versions}
    write_json(path / "meta.json", {**base, "seed": seed, **(meta or {})})
    if summary is not None:
        write_json(path / "summary.json", {"outcome": "finished", **summary})
    return path


def learning(final: float, *, steps: int = 2_000, every: int = 500, key: str = RETURN) -> list[dict[str, Any]]:
    """Records of a run that rises in a straight line to `final`."""
    return [{"env_step": step, key: final * step / steps} for step in range(every, steps + 1, every)]


def experiment(directory: Path, **changes: Any) -> Experiment:
    """Two arms, `control` and `treatment`, of five seeds; the treatment is expected 50 higher."""
    directory.mkdir(parents=True, exist_ok=True)
    base = Experiment(
        slug=directory.name,
        directory=directory,
        date=date(2026, 1, 2),
        status=Status.running,
        question="Does a lower threshold help?",
        hypothesis=Hypothesis("free nats from 1 to 0.1", "a higher return", True, 50.0, Contrast(("treatment",), ("control",))),
        metric=Metric(RETURN, at=2_000),
        common=("env.id=CartPole-v1",),
        arms=(Arm("control", ("loss.free_nats=1",)), Arm("treatment", ("loss.free_nats=0.1",))),
        seeds=(0, 1, 2, 3, 4),
    )
    return replace(base, **changes)


def fake_runs(
    root: Path, design: Experiment, finals: Mapping[str, Sequence[float]], make: Callable[..., Path] = fake_run
) -> dict[tuple[str, int], ExperimentRun]:
    """One finished run for each final value, with the configuration of its arm."""
    states = {}
    for arm in design.arms:
        for seed, final in zip(design.seeds, finals[arm.name], strict=True):
            path = make(root / design.slug / f"{arm.name}_{seed}", learning(final), seed=seed, summary={"seconds": 200.0})
            config = composed(design, arm)
            (path / "config.yaml").write_text(config_to_yaml(replace(config, train=replace(config.train, seed=seed))))
            states[arm.name, seed] = ExperimentRun(path, "finished")
    return states


def watch_settings(free_nats: float, *, clip: bool = True, gates: Iterable[str] = ()) -> dict[str, Any]:
    """What the collapse watch must know of a run, with these gates of pacing turned on."""
    on: dict[str, tuple[str, Any]] = {
        "focus": ("pacing.focus_threshold", 0.1),
        "camp": ("pacing.camp_ratio", 1.2),
        "kl_pause": ("pacing.kl_spike", "pause"),
    }
    own = {"loss.free_nats": free_nats, "loss.free_bits": "clip" if clip else "straight_through"}
    return flatten(Config()) | own | dict(on[gate] for gate in gates)
