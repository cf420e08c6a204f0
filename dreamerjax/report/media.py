"""Pictures and videos of a run, inside the page as far as they are not too large."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamerjax.report.html import Html, data_uri, element, folded, join, paragraph, picture
from dreamerjax.report.words import megabytes

LARGEST = 8 * 2**20  # bytes of a file that is put into the page
LARGEST_SUM = 48 * 2**20  # bytes of all of them
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm"}
LIMITS = (
    f"Files of media/ are part of this page up to {megabytes(LARGEST)} each and {megabytes(LARGEST_SUM)} together, "
    "the newest first; what is larger is named."
)
LEARNING_CURVE = "learning_curve.png"  # drawn anew for the page
_EXAMINATION = re.compile(r"(dream_reality|open_loop|open_loop_images)_(\d+)\.png")
_BROAD = re.compile(r"(dream_reality|open_loop)_\d+\.png")  # drawn for the whole width; images would be blurred by it


@dataclass(frozen=True)
class Media:
    """The files of media/ that a page can show."""

    examinations: dict[int, list[Path]]  # pictures of dreams against reality, by environment step, ascending
    others: list[Path]
    embedded: frozenset[Path]  # those small enough; the rest is named


def find_media(directory: Path) -> Media:
    """What there is to show, and what of it fits into a page."""
    found = sorted(directory.iterdir()) if directory.is_dir() else []
    shown = [path for path in found if path.suffix.lower() in (PICTURES | VIDEOS) and path.name != LEARNING_CURVE]
    examinations: dict[int, list[Path]] = {}
    for path in shown:
        if match := _EXAMINATION.fullmatch(path.name):
            examinations.setdefault(int(match[2]), []).append(path)
    examinations = dict(sorted(examinations.items()))
    others = [path for path in shown if not _EXAMINATION.fullmatch(path.name)]
    newest_first = [path for paths in reversed(examinations.values()) for path in paths]
    return Media(examinations, others, _that_fit([*newest_first, *others]))


def examination_pictures(media: Media) -> Html:
    """The newest pictures, and earlier ones folded."""
    parts = [
        folded(f"Pictures of step {step:,}", *(show(path, media) for path in paths))
        for step, paths in list(media.examinations.items())[:-1]
    ]
    newest = [show(path, media) for paths in list(media.examinations.values())[-1:] for path in paths]
    return join([*newest, *parts, paragraph(LIMITS, class_="note")] if newest else [])


def show(path: Path, media: Media) -> Html:
    """A picture or a video with its name; the name alone where it is too large or cannot be read."""
    if path not in media.embedded:
        return paragraph(element("code", path.name), " is too large for this page: ", element("code", str(path)))
    try:
        content = path.read_bytes()
    except OSError as error:
        return paragraph(element("code", path.name), f" cannot be read: {error.strerror or error}")
    return element("figure", _shown(path, content), element("figcaption", path.name))


def _shown(path: Path, content: bytes) -> Html:
    kind = path.suffix.lower()
    if kind in VIDEOS:
        return element("video", src=data_uri(VIDEOS[kind], content), controls="", loop="", muted="")
    return picture(PICTURES[kind], content, path.stem, class_="broad" if _BROAD.fullmatch(path.name) else "plain")


def _that_fit(paths: Sequence[Path]) -> frozenset[Path]:
    chosen, left = set(), LARGEST_SUM
    for path in paths:
        size = path.stat().st_size
        if size <= min(LARGEST, left):
            chosen.add(path)
            left -= size
    return frozenset(chosen)
