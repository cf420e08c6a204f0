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


def completed(line: str, folder: Path) -> list[str]:
    """What may stand at the end of a line."""
    answer = folder / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    command = [sys.executable, "-m", "dreamerjax"]
    done = subprocess.run(command, env=trials.environment(**asked), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return sorted(word.strip() for word in answer.read_text().split("\013"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
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
    ],
)
def test_what_may_come_next(line: str, expected: list[str], tmp_path: Path) -> None:
    assert completed(line, tmp_path) == expected


def test_the_shell_gets_it(tmp_path: Path) -> None:
    bash, scripts = shutil.which("bash"), Path(sys.executable).parent
    if bash is None or not (scripts / "dreamerjax").exists():
        pytest.skip("there is no bash, or the package is not installed")
    path = {"PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])}
    done = subprocess.run([bash, "-c", BASH], env=trials.environment(**path), cwd=tmp_path, capture_output=True, text=True)
    assert "train.steps=" in done.stdout.split(), done.stderr
