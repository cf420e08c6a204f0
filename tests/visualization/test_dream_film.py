"""A dream beside reality: what the pictures show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from dreamerjax.diagnostics.open_loop import DreamRollout, Readout
from dreamerjax.visualization import pictures
from dreamerjax.visualization.cartpole import POLE, draw_cartpole
from dreamerjax.visualization.dream_film import BORDER, FPS, HEADER, MOST, MOST_IMAGES, PICTURE, WIDTH, draw_dream
from dreamerjax.visualization.style import IMAGINED, REAL
from dreamerjax.visualization.video import count_frames, write_video


def random_dream(size: int = 4, context: int = 3, steps: int = 8, shape: tuple[int, ...] = (), **changes: Any) -> DreamRollout:
    """Random numbers; with a shape also an image that the agent sees as it is."""
    rng = np.random.default_rng(0)
    real, vectors = ({"state": rng.normal(size=(steps, size))} if size else {} for _ in range(2))
    images = {"image": rng.integers(0, 256, (steps, *shape), dtype=np.uint8)} if shape else {}
    drawn = {name: (values / 255).astype(np.float32) for name, values in images.items()}
    told = {"vectors": vectors, "images": drawn, "alive": np.linspace(1, 0, steps), "value": np.arange(steps) - 2.0}
    seen: Any = Readout(**{**told, **changes})
    return DreamRollout(context, real, images, seen)


def count(image: Image.Image, color: str) -> int:
    """Pixels of exactly this color, the border not counted."""
    inside = np.asarray(image)[BORDER:-BORDER, BORDER:-BORDER]
    return int((inside == ImageColor.getrgb(color)).all(axis=-1).sum())


@pytest.mark.parametrize(("env_id", "size"), [("CartPole-v1", 4), ("module:CartPole-v0", 4), ("Other-v0", 1), ("Other-v0", 3)])
def test_frames(env_id: str, size: int) -> None:
    frames = draw_dream(random_dream(size), env_id, "title")
    assert len(frames) == 8
    assert len({frame.size for frame in frames}) == 1
    assert all(side % 2 == 0 for side in frames[0].size)
    borders = [frame.getpixel((0, 0)) for frame in frames]
    assert borders == [ImageColor.getrgb(REAL)] * 3 + [ImageColor.getrgb(IMAGINED)] * 5
    cut = slice(3, None)  # the text is orange too, from here on
    plotted = [count(frame.crop((0, 84, *frame.size)), IMAGINED) for frame in frames[cut]]
    assert plotted == sorted(plotted)
    assert plotted[0] < plotted[-1]
    has_scenes = "CartPole" in env_id
    assert any(count(frame, "#{:02x}{:02x}{:02x}".format(*POLE)) > 50 for frame in frames) is has_scenes


def test_many_numbers_are_cut() -> None:
    few, many = (draw_dream(random_dream(size), "Other-v0", "title")[0] for size in (MOST, MOST + 9))
    assert few.size == many.size


def test_a_dream_that_goes_astray_leaves_reality_readable() -> None:
    wild = {"state": np.full((8, 4), 1e30), "other": np.zeros((8, 1))}
    frames = draw_dream(random_dream(vectors=wild), "CartPole-v1", "title")
    assert count(frames[-1].crop((0, 260, *frames[-1].size)), REAL) > 100


def boxes(shape: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Where the three pictures of an image of this shape are in a frame."""
    width, height = pictures.fitted((shape[1], shape[0]), PICTURE)
    left, first = pictures.SPACE + pictures.FRAME, HEADER + pictures.LABEL + pictures.FRAME
    tops = [first + number * (height + pictures.LABEL + 2 * pictures.FRAME) for number in range(3)]
    return [(left, top, left + width, top + height) for top in tops]


@pytest.mark.parametrize("size", [0, 3, 4])
@pytest.mark.parametrize("shape", [(32, 64, 3), (64, 64, 1)])
def test_images_are_beside_what_the_vector_film_shows(size: int, shape: tuple[int, ...]) -> None:
    dream = random_dream(size, shape=shape)
    env_id = "CartPole-v1" if size == 4 else "Other-v0"
    frames = draw_dream(dream, env_id, "title")
    assert len(frames) == 8
    assert len({frame.size for frame in frames}) == 1
    assert all(side % 2 == 0 for side in frames[0].size)
    assert [frame.getpixel((0, 0)) for frame in frames] == [ImageColor.getrgb(REAL)] * 3 + [ImageColor.getrgb(IMAGINED)] * 5
    for step, frame in enumerate(frames):
        real, agents, difference = (frame.crop(box) for box in boxes(shape))
        expected = pictures.picture(dream.real_images["image"][step]).resize(real.size, Image.Resampling.NEAREST)
        assert real.tobytes() == agents.tobytes() == expected.tobytes()
        assert difference.getextrema() == ((255, 255),) * 3  # white: the agent sees what there is
        left, top, _, _ = boxes(shape)[1]
        assert frame.getpixel((left - 1, top - 1)) == ImageColor.getrgb(REAL if step < 3 else IMAGINED)
    if size:
        alone = draw_dream(random_dream(size), env_id, "title")[5]
        beside = frames[5].crop((frames[5].width - WIDTH, 0, frames[5].width, frames[5].height))
        assert beside.height >= alone.height
        assert count(beside.crop((0, HEADER, *beside.size)), REAL) > 100


def test_where_the_agent_is_wrong_there_is_a_difference() -> None:
    dream = random_dream(0, shape=(16, 16, 3))
    dream.real_images["image"][:] = 255
    drawn = np.ones((8, 16, 16, 3), np.float32)
    drawn[5, 4, 6] = 0.25
    images: Any = {"image": drawn}
    wrong = DreamRollout(dream.context, {}, dream.real_images, dream.seen._replace(images=images))
    for step, frame in enumerate(draw_dream(wrong, "Other-v0", "title")):
        found = np.asarray(frame.crop(boxes((16, 16))[2]))
        assert found.shape == (128, 128, 3)  # eight times as large
        place = np.zeros((128, 128, 3), bool)
        place[32:40, 48:56] = step == 5
        np.testing.assert_array_equal(found, np.where(place, 64, 255))


def test_the_newest_of_stacked_frames_is_shown() -> None:
    dream = random_dream(0, shape=(32, 32, 4))
    dream.real_images["image"][..., :3] = 0
    frame = np.asarray(draw_dream(dream, "Other-v0", "title", frame_stack=4)[2].crop(boxes((32, 32))[0]))
    np.testing.assert_array_equal(frame[::4, ::4, 0], dream.real_images["image"][2, :, :, 3])


def test_many_images_are_cut() -> None:
    dream = random_dream(3, shape=(16, 16, 3))
    many = {f"image{i}": dream.real_images["image"] for i in range(MOST_IMAGES + 2)}
    seen = dream.seen._replace(images=dict.fromkeys(many, dream.seen.images["image"]))
    frame = draw_dream(DreamRollout(3, dream.real, many, seen), "Other-v0", "title")[0]
    assert frame.width == WIDTH + MOST_IMAGES * (128 + 2 * pictures.FRAME + pictures.SPACE)


def test_a_film_of_images_can_be_read_back(tmp_path: Any) -> None:
    frames = draw_dream(random_dream(0, shape=(48, 80, 3)), "Other-v0", "title")
    path = write_video(frames, FPS, tmp_path / "media" / "dream", "video/dream", 7)
    assert count_frames(path, FPS) == 8


@pytest.mark.parametrize(("position", "angle"), [(0.0, 0.0), (1.2, 0.2), (-2.0, -0.3)])
def test_cartpole_is_drawn_as_gymnasium_draws_it(position: float, angle: float) -> None:
    pytest.importorskip("pygame")
    import gymnasium as gym

    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.unwrapped.state = np.array([position, 0.0, angle, 0.0])  # type: ignore[attr-defined]
    theirs = np.asarray(env.render(), np.float64)
    env.close()
    ours = np.asarray(draw_cartpole(position, angle, 600), np.float64)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs).max(axis=-1) > 100).mean() < 0.0015
