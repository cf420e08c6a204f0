"""What an environment's pictures become before the agent sees them.

It is done where the environment is stepped, right after the step, so that a picture of 400 x 600 is never sent to another
process or stored (findings_of_the_log.md#01-03b: that alone made collection 8.2 times faster).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dreamerjax.config.schema import EnvConfig

WHOLE = (0.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True)
class ImageView:
    """How images are shown to the agent; the default shows them as they are."""

    size: tuple[int, int] | None = None  # (height, width); None: their own
    crop: tuple[float, float, float, float] = WHOLE  # top, bottom, left, right that are kept, as shares of the height and width
    grayscale: bool = False
    frames: int = 1  # the newest so many, one behind the other on the channel axis

    @classmethod
    def from_config(cls, config: EnvConfig) -> ImageView:
        """The view that a configuration asks for."""
        height, width = config.image_size
        top, bottom, left, right = config.crop
        return cls((height, width), (top, bottom, left, right), config.grayscale, config.frame_stack)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """[H, W, C] of what becomes of images of this shape."""
        height, width = self.size or shape[:2]
        channels = shape[2] if len(shape) == 3 else 1
        return height, width, (1 if self.grayscale and channels == 3 else channels) * self.frames

    def show(self, image: np.ndarray) -> np.ndarray:
        """One image, uint8 [H, W] or [H, W, C], as the agent sees one frame: uint8 [h, w, c].

        Shrunk by the mean over the area of each pixel: a pole that is narrower than a pixel still leaves its shade.
        """
        whole = image[:, :, None] if image.ndim == 2 else image
        size, is_color = self.size or whole.shape[:2], whole.shape[2] == 3
        gray = self.grayscale and is_color
        if not gray and self.crop == WHOLE and size == whole.shape[:2]:
            return whole.copy()
        pictures = [whole] if is_color else np.moveaxis(whole, 2, 0)
        return np.dstack([self._resized(picture, size, gray=gray) for picture in pictures])

    def _resized(self, image: np.ndarray, size: tuple[int, int], *, gray: bool) -> np.ndarray:
        picture = Image.fromarray(image)
        if gray:
            picture = picture.convert("L")
        top, bottom, left, right = self.crop
        box = (left * picture.width, top * picture.height, right * picture.width, bottom * picture.height)
        return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BOX, box=box))
