"""Frames as a file that one can watch: MP4 where PyAV and an H.264 encoder are installed, else GIF; checked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageSequence

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, write_bytes
from dreamerjax.storage.logger import EventFile

CODEC: Final = "libx264"
QUALITY = "26"  # x264's constant rate factor: drawings look the same as without loss
COLORS = 64  # of a GIF


def write_video(frames: Sequence[Image.Image], fps: float, stem: Path, tag: str, step: int) -> Path:
    """Writes `<stem>.mp4`, or `<stem>.gif` without an MP4 encoder, into a run's `media`, and puts the frames into TensorBoard.

    TensorBoard gets an animated GIF, the only kind of video that it shows, in an event file beside the video: a second one in
    the run's own directory would hide what a training in progress goes on to log.

    The frames are RGB pictures of one size, both sides even. Returns the file, which was read back and holds every frame.

    Raises UserError: it cannot be written, or does not hold what was written; exit code 1.
    """
    gif = _gif(frames, fps)
    suffix, content = ("mp4", _mp4(frames, fps)) if has_mp4() else ("gif", gif)
    path = stem.with_name(f"{stem.name}.{suffix}")
    with file_faults(path):
        path.parent.mkdir(exist_ok=True)
    write_bytes(path, content)
    if (found := count_frames(path, fps)) != len(frames):
        path.unlink(missing_ok=True)
        message = f"no video {path}: only {found} of its {len(frames)} frames could be read back, so it was removed"
        raise UserError(message, exit_code=1)
    events = EventFile(path.parent, None)
    events.image(step, tag, gif)
    events.close()
    return path


def has_mp4() -> bool:
    """Whether MP4 can be written here."""
    try:
        import av
    except ImportError:
        return False
    return CODEC in av.codecs_available


def count_frames(path: Path, fps: float) -> int:
    """The frames of a video that `write_video` wrote, all of them decoded; 0 for what is not a video.

    Equal neighbours are one frame of a GIF, shown for longer: there, what is counted is how long it plays.
    """
    return _count_mp4(path) if path.suffix == ".mp4" else _count_gif(path, fps)


def _mp4(frames: Sequence[Image.Image], fps: float) -> bytes:
    from fractions import Fraction

    import av

    content = BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream(CODEC, rate=Fraction(fps).limit_denominator(1000), options={"crf": QUALITY})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"  # the one that every browser plays
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
    return content.getvalue()


def _count_mp4(path: Path) -> int:
    import av

    try:
        with av.open(path) as container:
            return sum(1 for _ in container.decode(video=0))
    except (av.FFmpegError, IndexError):  # damaged, or without a video in it
        return 0


def _gif(frames: Sequence[Image.Image], fps: float) -> bytes:
    """One palette for all frames, of four from the first to the last, so that what stays the same costs nothing."""
    some = [np.asarray(frames[number]) for number in np.linspace(0, len(frames) - 1, 4, dtype=int)]
    palette = Image.fromarray(np.concatenate(some)).quantize(COLORS, dither=Image.Dither.NONE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    content = BytesIO()
    duration = _milliseconds(fps)
    first.save(content, "GIF", save_all=True, append_images=others, duration=duration, loop=0, optimize=True)
    return content.getvalue()


def _count_gif(path: Path, fps: float) -> int:
    played = 0
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
                played += int(frame.info["duration"])
    except (OSError, KeyError):
        return 0
    return round(played / _milliseconds(fps))


def _milliseconds(fps: float) -> int:
    """Of a frame, as a GIF has them: whole hundredths of a second, and at least two for browsers."""
    return 10 * max(2, round(100 / fps))
