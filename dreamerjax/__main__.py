"""List the commands: `python -m dreamerjax`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from dreamerjax.config.help import purpose

COMMANDS = ("train", "evaluate", "report", "check_env", "experiment", "benchmark")


def docstring(command: str) -> str:
    """That of a command's module, read and not imported: importing would start JAX."""
    package = Path(__file__).parent
    module = package / f"{command}.py"
    source = module if module.is_file() else package / command / "__main__.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def main(arguments: Sequence[str]) -> int:
    """Print one line per command; returns the exit code, 2 if something was asked that only a command can do."""
    width = max(map(len, COMMANDS))
    for command in COMMANDS:
        print(f"python -m dreamerjax.{command:<{width}}  {purpose(docstring(command))}")
    print("\nWhat each of them takes: --help")
    wrong = [argument for argument in arguments if argument not in ("-h", "--help")]
    if wrong:
        print(f"error: {wrong[0]}: write one of the commands above, with its dot", file=sys.stderr)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
