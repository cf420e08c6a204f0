"""The experiment file that `new` writes."""

from __future__ import annotations

import datetime
import re
import textwrap
from pathlib import Path

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, write_text
from dreamerjax.experiment.design import RULE
from dreamerjax.experiment.spec import FILE

QUESTION = "Does a larger entropy bonus make CartPole-v1 learn faster?"
TEMPLATE = """\
# One question, one change, one number that decides. The format: docs/experiments.md.
question: {question}
date: {date}
status: planned                 # planned | running | reported; kept by `run` and `report`

hypothesis:
  change: behavior.entropy 3e-3 instead of 3e-4
  expect: a higher evaluation return after 4,000 environment steps
  higher: true                  # the direction in which treatment - control is expected
  by: 25                        # the smallest effect that counts, in units of the metric
  treatment: high               # an arm, a list of arms, or {{swept.key: value}}
  control: low                  # (of a sweep also, instead of the two: factor: a swept key, against: another)

metric:
  name: eval/greedy/return_mean # a key of metrics.jsonl: docs/metrics.md
  budget: env_steps             # env_steps | updates | seconds: the arms are compared at equal amounts of it
  at: 4000
  statistic: last               # last | mean | min | max, the latter three from `start` to `at`
  start: 0

{rule}
rule:
  confidence: 0.95

gate: dynamics                  # architecture: arms may differ in environment and model
factorial: false                # true: arms may differ in several keys
pilot: false                    # true: fewer than three seeds are allowed

common: [size=tiny, train.steps=4000]   # overrides of all arms
arms:                                   # name: overrides; or name: {{overrides: [...], script: file.py}}
  low: [behavior.entropy=3e-4]
  high: [behavior.entropy=3e-3]
# instead of arms:
# sweep: {{grid: {{optim.actor_lr: [1e-5, 1e-4], behavior.entropy: [3e-4, 3e-3]}}}}
# sweep: {{random: {{samples: 12, seed: 0, keys: {{optim.actor_lr: {{low: 1e-5, high: 1e-3, log: true}}}}}}}}
seeds: [0, 1, 2, 3, 4]
"""


def write_new(slug: str, root: Path, question: str = QUESTION) -> Path:
    """Write a new experiment file, valid as it is; returns it.

    Raises:
        UserError: the name does not name a directory, or is taken; the file cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", slug, re.ASCII):
        raise UserError(f"{slug!r} cannot be an experiment's name: letters, digits, '_', '-' and '.' only")
    file = root / slug / FILE
    if file.exists():
        raise UserError(f"{file} exists already")
    rule = textwrap.fill(f"The verdict: {RULE}.", 118, initial_indent="# ", subsequent_indent="# ")
    with file_faults(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    text = " ".join(question.split())
    shown = "'" + text.replace("'", "''") + "'"
    write_text(file, TEMPLATE.format(question=shown, date=datetime.date.today().isoformat(), rule=rule))
    return file
