"""Videos as files: every frame can be read back, and what cannot be watched is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dreamerjax.core.errors import UserError
from dreamerjax.visualization import video
from dreamerjax.visualization.video import count_frames, write_video
from tests.tensorboard import values

KINDS = ["gif", "mp4"]


def moving(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Frames with a square that moves; every third one is like the one before."""
    frames = []
    for step in range(count):
        frame = Image.new("RGB", size, "#ffffff")
        left = 2 * (step - (step % 3 == 2))
        ImageDraw.Draw(frame).rectangle((left, 10, left + 9, 19), fill="#1b6ca8")
        frames.append(frame)
    return frames


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of file that is written: without PyAV it is always the first."""
    if request.param == "mp4":
        pytest.importorskip("av")
    else:
        monkeypatch.setattr(video, "has_mp4", lambda: False)
    return str(request.param)


@pytest.mark.parametrize(("count", "fps"), [(20, 10.0), (20, 25.0), (7, 30.0), (3, 100 / 3)])
def test_every_frame_is_there(tmp_path: Path, kind: str, count: int, fps: float) -> None:
    path = write_video(moving(count), fps, tmp_path / "media" / "play_1.5", "video/play", 7)
    assert path == tmp_path / "media" / f"play_1.5.{kind}"
    assert count_frames(path, fps) == count


def test_gif_plays_forever_at_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "has_mp4", lambda: False)
    with Image.open(write_video(moving(6), 25.0, tmp_path / "x", "x", 0)) as image:
        assert (image.info["loop"], image.info["duration"], image.size) == (0, 40, (64, 48))


def test_mp4_is_small_and_for_browsers(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = write_video(moving(30), 25.0, tmp_path / "x", "x", 0)
    with av.open(path) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, float(stream.duration * stream.time_base)) == (25, pytest.approx(30 / 25))
    assert path.stat().st_size < 10_000


def test_tensorboard_gets_a_gif(tmp_path: Path, kind: str) -> None:
    path = write_video(moving(9), 25.0, tmp_path / "media" / "play", "video/play", 7)
    ((step, value),) = values(path.parent)
    assert (step, value.tag, value.image.width, value.image.height) == (7, "video/play", 64, 48)
    again = tmp_path / "again.gif"
    again.write_bytes(value.image.encoded_image_string)
    assert count_frames(again, 25.0) == 9
    assert list(tmp_path.glob("events*")) == []


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:250], lambda content: content[:-120]])
def test_a_writer_that_fails_silently_is_found_out(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, damage: object
) -> None:
    write = getattr(video, f"_{kind}")
    monkeypatch.setattr(video, f"_{kind}", lambda *arguments: damage(write(*arguments)))  # type: ignore[operator]
    message = rf"no video .*x\.{kind}: only \d+ of its 20 frames could be read back"
    with pytest.raises(UserError, match=message) as caught:
        write_video(moving(20), 25.0, tmp_path / "x", "x", 0)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_unwritable_media_is_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "media").write_text("in the way")
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}/media/x\.{kind}: ") as caught:
        write_video(moving(3), 25.0, tmp_path / "media" / "x", "x", 0)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["x.gif", "x.mp4"])
def test_no_frames_in_what_is_no_video(tmp_path: Path, name: str) -> None:
    if name == "x.mp4":
        pytest.importorskip("av")
    (tmp_path / name).write_bytes(b"GIF89a" + bytes(400))
    assert count_frames(tmp_path / name, 25.0) == 0
