"""Writing small files: in one step, as valid JSON, with one clear line where it fails."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dreamerjax.core.errors import UserError


def user_path(path: str | Path) -> Path:
    """A path as a user writes it: `~` is the home folder. Raises UserError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}") from error


@contextmanager
def file_faults(path: Path, doing: str = "write") -> Iterator[None]:
    """Makes a UserError that names `path` of an OSError while doing that to it: full disk, no permission; exit code 1."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {doing} {path}: {error.strerror or error}", exit_code=1) from error


def plain(value: Any) -> Any:
    """`value` as valid JSON data: arrays as numbers or lists, non-finite floats as "NaN", "Infinity" or "-Infinity"."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, str | int | float | None) else str(value)


def read_json_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where there is none, or none that can be read, or it is no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def sound(content: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object without what is of another kind than it was written as, a type or [type]; empty for what is none."""

    def fits(value: Any, kind: Any) -> bool:
        if isinstance(kind, list):
            return isinstance(value, list) and all(fits(item, kind[0]) for item in value)
        return isinstance(value, kind)

    items = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in items if fits(value, kinds.get(key, object))}


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step: a reader, or a crash, sees the old content or the new, never a part.

    Raises UserError: the file cannot be written; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with file_faults(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 in one step; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON in one step; see `plain` and `write_text`."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")
