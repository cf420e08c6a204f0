"""What TAB completes, asked as the shell's function asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import trials

BASH = """
eval "$(register-python-argcomplete dreamerjax)"
COMP_LINE='dreamerjax train train.st' COMP_POINT=25 COMP_TYPE=9 COMP_WORDS=(dreamerjax train train.st) COMP_CWORD=2
_python_argcomplete dreamerjax
echo "${COMPREPLY[@]}"
"""


# Processes that have imported already what the command needs, one for each line.
FORKS = """
import os, runpy, sys
import argcomplete, dreamerjax.config.cli
for number, line in enumerate(sys.argv[2:]):
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    child = os.fork()
    if not child:
        os.environ.update(asked, _ARGCOMPLETE_STDOUT_FILENAME=f"{sys.argv[1]}/{number}")
        sys.argv = ["dreamerjax"]
        runpy.run_module("dreamerjax", run_name="__main__", alter_sys=True)
    _, status = os.waitpid(child, 0)
    assert status == 0, line
"""
LINES = [
    ("dreamerjax tr", ["train"]),
    ("dreamerjax c", ["check-env", "compare"]),
    ("dreamerjax train train.st", ["train.steps=", "train.stop_at_return="]),
    ("dreamerjax train jit=", ["jit=false", "jit=true"]),
    ("dreamerjax train mode=boot", ["mode=bootstrap"]),
    ("dreamerjax train train.seed=1 env=cartpole_s", ["env=cartpole_state"]),
    ("dreamerjax train +experiment=cartpole", ["+experiment=cartpole", "+experiment=cartpole_pixels"]),
    ("dreamerjax check-env env.num", ["env.num_envs="]),
    ("dreamerjax train fro", ["from="]),
    ("dreamerjax report ho", ["host="]),
    ("dreamerjax experiment run --clu", ["--cluster"]),
    ("dreamerjax experiment run trial --cluster da", ["dask"]),
    ("dreamerjax evaluate epi", ["episodes="]),
]


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What may stand at the end of each line."""
    answers, lines = tmp_path_factory.mktemp("answers"), [line for line, _ in LINES]
    command = [sys.executable, "-c", FORKS, str(answers), *lines]
    done = subprocess.run(command, env=trials.environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    told = [(answers / str(number)).read_text() for number in range(len(lines))]
    return {line: sorted(word.strip() for word in answer.split("\013")) for line, answer in zip(lines, told, strict=True)}


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_what_may_come_next(line: str, expected: list[str], completed: dict[str, list[str]]) -> None:
    assert completed[line] == expected


def test_the_shell_gets_it(tmp_path: Path) -> None:
    bash, scripts = shutil.which("bash"), Path(sys.executable).parent
    if bash is None or not (scripts / "dreamerjax").exists():
        pytest.skip("there is no bash, or the package is not installed")
    path = {"PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])}
    done = subprocess.run([bash, "-c", BASH], env=trials.environment(**path), cwd=tmp_path, capture_output=True, text=True)
    assert "train.steps=" in done.stdout.split(), done.stderr
