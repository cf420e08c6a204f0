"""Experiment files for the tests: one that is valid, and changes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.e2e import trials

RANDOM = ["size=tiny", "env.num_envs=2", "replay.capacity=2000", "parallel.devices=1", *trials.RANDOM_ONLY]
VALID: dict[str, Any] = {
    "question": "Does it run?",
    "date": "2026-11-25",
    "status": "planned",
    "hypothesis": {"change": "b for a", "expect": "longer episodes", "by": 1, "treatment": "b", "control": "a"},
    "metric": {"name": "episode/return", "at": 80},
    "common": RANDOM,
    "arms": {"a": ["loss.free_nats=0.1"], "b": ["loss.free_nats=1.0"]},
    "seeds": [0, 1, 2],
}
SWEEP = {"grid": {"optim.actor_lr": ["1e-5", "1e-4"], "behavior.entropy": [0.001, 0.01, 0.1]}}


def write(root: Path, changes: dict[str, Any] | None = None, slug: str = "trial") -> Path:
    """Write the valid file with some dotted keys changed, or removed where the value is None; returns the file."""
    content: dict[str, Any] = yaml.safe_load(yaml.safe_dump(VALID))
    for key, value in (changes or {}).items():
        *sections, last = key.split("/") if key.startswith("arms/") else key.split(".")
        node = content
        for section in sections:
            node = node[section]
        if value is None:
            del node[last]
        else:
            node[last] = value
    file = root / slug / "experiment.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
