"""Check that what the Markdown files name exists (links with their fragments, functions that are linked by name, paths, make
targets, commands with overrides that compose), and that docs/configuration.md is what the schema makes of it.

Run as `python tests/docs_check.py [ROOT]`; prints one line per fault and exits 1 if there is any.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dreamerjax.config.composition import load_members
from dreamerjax.config.reference import reference
from dreamerjax.core.errors import UserError

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_SYMBOL = re.compile(r"[\w.]+(?:\.|::)(?!py$)(\w+)")
_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w./<-])[\w.-]+(?:/[\w.-]+)*/?")
_COMMAND = re.compile(r"python3? -m (dreamerjax[\w.]*)([^\n`#&|;>]*)")
_MAKE = re.compile(r"(?:^|&& |; )(?:\$ )?make ((?:[a-z][a-z-]* *)+)", re.MULTILINE)
_SUFFIXES = {".py", ".md", ".yaml", ".toml", ".txt", ".png", ".json", ".cff"}


def markdown_files(root: Path) -> list[Path]:
    """The Markdown files that are, or could be, under version control."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [root / name for name in listing.split("\0") if name and (root / name).is_file()]


def link_faults(text: str, page: Path) -> Iterator[str]:
    """Relative links, outside code, that lead nowhere: no such file, no such place in it, no such definition."""
    for words, target in _LINK.findall(_CODE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists():
            yield f"link to {target}: no such file"
        elif file.suffix == ".md" and fragment and fragment not in anchors(file.read_text(encoding="utf-8")):
            yield f"link to {target}: no such heading or anchor"
        elif file.suffix == ".py" and (symbol := _SYMBOL.fullmatch(words)) and not defines(file, symbol[1]):
            yield f"link to {target}: it does not define {symbol[1]}"


def anchors(text: str) -> set[str]:
    """What a fragment may name in a Markdown file: its explicit anchors, and its headings by GitHub's rule."""
    found, slugs = set(_ANCHOR.findall(_CODE.sub("", text))), Counter[str]()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"<[^>]*>|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{slug}-{slugs[slug]}" if slugs[slug] else slug)
        slugs[slug] += 1
    return found


def defines(file: Path, name: str) -> bool:
    """Whether a Python file has a function, a class or a module's constant of this name."""
    definition = rf"^ *(?:def|class) {name}\b|^{name}\b"
    return re.search(definition, file.read_text(encoding="utf-8"), re.MULTILINE) is not None


def path_faults(code: str, root: Path, folder: Path) -> Iterator[str]:
    """Missing paths in inline code: those that start in a folder of the repository, and its top-level files."""
    if "\n" in code:
        return
    for name in _PATH.findall(code):
        first, slash, _ = name.partition("/")
        inside = slash and (root / first).is_dir() and first not in ("runs", "multirun", ".venv")
        is_file = name == code and not slash and Path(name).suffix in _SUFFIXES and name[0].isupper()
        if (inside or is_file) and not (root / name.rstrip(".")).exists() and not (folder / name).exists():
            yield f"{name}: no such file"


def command_faults(code: str) -> Iterator[str]:
    """`python -m dreamerjax...` commands whose module is missing or whose overrides do not compose."""
    for module, rest in _COMMAND.findall(code.replace("\\\n", " ")):
        if importlib.util.find_spec(module) is None:
            yield f"python -m {module}: no such module"
            continue
        words = shlex.split(rest)
        if not words or any(word in ("...", "--help") or not re.match(r"[+~]?[\w.]+=|-", word) for word in words):
            continue
        if any(word.startswith("--") for word in words):
            continue
        if "<" in rest:  # a placeholder
            continue
        fault = compose_fault(module, words)
        if fault:
            yield f"python -m {module} {' '.join(words)}: {fault}"


def compose_fault(module: str, words: list[str]) -> str:
    """What the entry point says about these arguments; empty if it takes them. Nothing is run."""
    plain = [word for word in words if word not in ("-m", "--multirun")]
    if module == "dreamerjax.train":
        sweep = len(plain) < len(words)
        try:
            load_members([word.partition(",")[0] if sweep else word for word in plain])
        except UserError as error:
            return str(error)
        return ""
    done = subprocess.run([sys.executable, "-m", module, "--cfg", "job", *plain], capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def make_faults(code: str, targets: set[str]) -> Iterator[str]:
    """Make targets that the Makefile does not have."""
    for names in _MAKE.findall(code):
        for name in names.split():
            if name not in targets:
                yield f"make {name}: no such target"


def reference_faults(root: Path) -> Iterator[str]:
    """A reference of keys that is not what the schema says now; only where the schema is."""
    page = root / "docs" / "configuration.md"
    if not (root / "dreamerjax" / "config" / "schema.py").is_file():
        return
    if not page.is_file() or page.read_text(encoding="utf-8") != reference():
        name = page.relative_to(root)
        yield f"{name}: out of date: python -m dreamerjax.config.reference > {name}"


def check(path: Path, root: Path, targets: set[str]) -> list[str]:
    """All faults of one Markdown file."""
    text = path.read_text(encoding="utf-8")
    faults = list(link_faults(text, path))
    for match in _CODE.findall(text):
        code = re.sub(r"^```\w*\n|```$", "", match).strip("`")
        faults += [*path_faults(code, root, path.parent), *command_faults(code), *make_faults(code, targets)]
    return faults


def main(root: Path) -> int:
    """Check every Markdown file below `root`; return the exit code."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    paths = markdown_files(root)
    faults = [f"{path.relative_to(root)}: {fault}" for path in paths for fault in check(path, root, targets)]
    faults += reference_faults(root)
    print("\n".join(faults) or f"documentation: {len(paths)} files, every link, path, command and make target exists")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()))
