"""Other environments than CartPole: a few updates and an evaluation of each, from the command line's point of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamerjax.storage.logger import read_metrics
from tests.e2e import trials

FEW = ("train.steps=56", "env.time_limit=20", "train.eval_every=56")  # 3 updates


@pytest.mark.parametrize(
    ("overrides", "observations", "action"),
    [
        (["env=pendulum"], {"state": 3}, "continuous"),
        (["env=acrobot"], {"state": 6}, "discrete"),
        (
            ["env.id=sample_envs:Mixed-v0", "env.vectorization=subprocess"],
            {"parts.0": 1, "parts.1.flags": 2, "parts.1.reward": 2, "walk": 4},
            "discrete",
        ),
    ],
    ids=["Box action", "Acrobot", "Dict observation, MultiDiscrete action, subprocesses"],
)
def test_spaces(tmp_path: Path, overrides: list[str], observations: dict[str, int], action: str) -> None:
    assert trials.run_here(tmp_path, *FEW, *overrides) == 0
    run = trials.only_run(tmp_path)
    summary = trials.summary(run)
    assert (summary["outcome"], summary["updates"]) == ("finished", 3)
    assert np.isfinite(summary["last_return"])
    restored = trials.latest(run)
    assert restored.replay is not None
    for name, size in observations.items():
        assert restored.replay[f"field.{name}"].shape[-1] == size
    taken = restored.replay["field.action"]
    assert taken.dtype == (np.float32 if action == "continuous" else np.int32)
    assert np.isfinite(taken).all()


def test_mountain_car_is_collected_until_its_time_limit(tmp_path: Path) -> None:
    assert trials.run_here(tmp_path, "env=mountaincar", *trials.RANDOM_ONLY, "env.time_limit=20") == 0
    run = trials.only_run(tmp_path)
    returns = [record["episode/return"] for record in read_metrics(run / "metrics.jsonl") if "episode/return" in record]
    assert returns == [-20.0] * 4
    restored = trials.latest(run)
    assert restored.replay is not None
    assert restored.replay["field.is_last"].sum() == 4
    assert not restored.replay["field.is_terminal"].any()
