"""What `make site` adds to MkDocs: the repository's files as they lie, a page for every module, and no need of a network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
FACES = ("dreamerjax.api.learn", "dreamerjax.agent.inference.Agent", "dreamerjax.core.errors.UserError")
FETCHED = re.compile(r'<(?:link\b[^>]*\bhref|(?:script|img|iframe|source|video)\b[^>]*\bsrc)="?(?:https?:)?//[^>]*>')
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
LIST_BELOW_TEXT = re.compile(r"^((?!- )\S.*\n)(?=- )", re.MULTILINE)
SOURCE = re.compile(r"\[([^\]]*)\]\((?:\.\./)*(dreamerjax/[\w/]+)\.py\)")


def on_files(files: Files, config: Any) -> Files:
    """Every file that is, or could be, under version control, where it lies there; those of the theme; the reference."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = [name for name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0") if name]
    faces = "\n\n".join(f"::: {face}\n    options:\n      skip_local_inventory: true" for face in FACES)
    found = [File.generated(config, name, abs_src_path=str(ROOT / name)) for name in names if (ROOT / name).is_file()]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    modules = [name.removesuffix(".py") for name in names if re.fullmatch(r"dreamerjax/(\w+/)*\w+\.py", name)]
    pages = {path.replace("__init__", "index"): page_of(module(path)) for path in modules}
    pages["index"] = f"# Reference\n\n`import dreamerjax` has these; every module has a page of its own.\n\n{faces}\n"
    return Files([*found, *theme, *(File.generated(config, f"api/{path}.md", content=page) for path, page in pages.items())])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """As GitHub reads it: a list may follow a line of text. Links to a module's file lead to what the reference says of it."""
    parts = FENCE.split(markdown)
    parts[::2] = (SOURCE.sub(reference, LIST_BELOW_TEXT.sub(r"\1\n", text)) for text in parts[::2])
    return "".join(parts)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Raises PluginError for a page that would fetch something from elsewhere."""
    if fetched := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} needs a network: {fetched[0]}")
    return output


def page_of(name: str) -> str:
    """All that a module defines."""
    return f"# {name}\n\n::: {name}\n    options:\n      show_root_heading: false\n"


def module(path: str) -> str:
    """The dotted name of a file without its suffix."""
    return path.replace("/", ".").removesuffix(".__init__")


def reference(link: re.Match[str]) -> str:
    """A link of autorefs: to the symbol if the words are its dotted name, else to the module."""
    words, name = link[1], module(link[2])
    symbol = f"dreamerjax.{words}"
    public = symbol.startswith(f"{name}.") and not words.endswith(".py") and not words.rpartition(".")[2].startswith("_")
    return f"[{words}][{symbol if public else name}]"
