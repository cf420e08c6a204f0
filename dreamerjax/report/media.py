"""Pictures and videos of a run, which become part of the page as far as they are not too large."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LARGEST = 8 * 2**20  # bytes of a file that is put into the page
LARGEST_SUM = 48 * 2**20  # bytes of all of them
LIMITS = (
    f"Files of media/ are part of this page up to {LARGEST // 2**20} MiB each and {LARGEST_SUM // 2**20} MiB together, "
    "the newest first; what is larger is named."
)
TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
LEARNING_CURVE = "learning_curve.png"  # drawn anew for the page
_EXAMINATION = re.compile(r"(dream_reality|open_loop|open_loop_images)_(\d+)\.png")


@dataclass(frozen=True)
class MediaFile:
    """A picture or a video."""

    path: Path
    content: bytes | None  # none where the file is too large, or cannot be read
    fault: str  # why it cannot be read, or empty

    @property
    def media_type(self) -> str:
        """Such as image/png."""
        return TYPES[self.path.suffix.lower()]

    @property
    def step(self) -> int | None:
        """Environment steps before the examination that it is a picture of; none of any other file."""
        match = _EXAMINATION.fullmatch(self.path.name)
        return int(match[2]) if match else None

    @property
    def broad(self) -> bool:
        """Whether it is drawn for the whole width of a page, which would blur images."""
        return self.step is not None and not self.path.name.startswith("open_loop_images")


def read_media(directory: Path) -> list[MediaFile]:
    """What there is to show: pictures of examinations, the newest first, then all other files, by name."""
    found = sorted(directory.iterdir()) if directory.is_dir() else []
    shown = [MediaFile(path, None, "") for path in found if path.suffix.lower() in TYPES and path.name != LEARNING_CURVE]
    files, left = [], LARGEST_SUM
    for file in sorted(shown, key=lambda file: -1 if file.step is None else file.step, reverse=True):
        files.append(_read(file.path, min(LARGEST, left)))
        left -= len(files[-1].content or b"")
    return files


def _read(path: Path, most: int) -> MediaFile:
    try:
        if not path.resolve().is_relative_to(path.parent.resolve()):
            return MediaFile(path, None, "a link that leads out of the run")
        return MediaFile(path, path.read_bytes() if path.stat().st_size <= most else None, "")
    except OSError as error:
        return MediaFile(path, None, error.strerror or str(error))
