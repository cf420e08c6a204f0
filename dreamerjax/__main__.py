"""The commands: `dreamerjax COMMAND ...`, which is `python -m dreamerjax.COMMAND ...`. Without a command: list them."""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import sys
from pathlib import Path

from dreamerjax.config.completion import ASKED, asked_command, complete
from dreamerjax.config.help import purpose
from dreamerjax.core.console import say

COMMANDS = ("train", "evaluate", "report", "compare", "check_env", "experiment", "benchmark")
OF_RUNS = ("train", "check_env")  # take every key of a run


def docstring(command: str) -> str:
    """That of a command's module, read and not imported: importing would start JAX."""
    package = Path(__file__).parent
    module = package / f"{command}.py"
    source = module if module.is_file() else package / command / "__main__.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def parser() -> argparse.ArgumentParser:
    """A command line that lacks its command, to be completed."""
    made = argparse.ArgumentParser()
    made.add_argument("command", choices=[name.replace("_", "-") for name in COMMANDS])
    return made


def complete_command() -> None:
    """Where the shell asks what may come next: tell it the commands, or have the one that is named tell what it takes."""
    command = (asked_command() or "").replace("-", "_")
    if command not in COMMANDS:
        complete(parser)
        return
    os.environ[ASKED] = str(int(os.environ[ASKED]) + 1)  # what comes before is the program
    if command in OF_RUNS:  # without importing JAX
        from dreamerjax.config.cli import complete_settings

        complete_settings()
    sys.argv.insert(1, command)


def main() -> int:
    """Run the command that the command line names, or list them all; returns the exit code, 2 for what is no command."""
    complete_command()
    asked = sys.argv[1] if len(sys.argv) > 1 else "--help"
    command = asked.replace("-", "_")
    if command in COMMANDS:
        del sys.argv[1]
        # Programs are found as `python -m` finds them: in the present folder too, where an environment's module may lie.
        sys.path.insert(0, "")
        runpy.run_module(f"dreamerjax.{command}", run_name="__main__", alter_sys=True)
        return 0
    width = max(map(len, COMMANDS))
    lines = [f"dreamerjax {name.replace('_', '-'):<{width}}  {purpose(docstring(name))}" for name in COMMANDS]
    say(
        "\n".join(
            [*lines, "", "What each of them takes: --help. The same without the script: python -m dreamerjax.train, and so on"]
        )
    )
    wrong = asked not in ("-h", "--help")
    if wrong:
        say(f"error: {asked}: there is no such command", sys.stderr)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
