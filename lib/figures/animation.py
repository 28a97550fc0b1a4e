"""A training's course as an animated GIF: the same latents, frame by frame, under a title."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.common.files import atomic_path

TITLE_HEIGHT, FONT_SIZE, GAP, SCALE = 30, 18, 2, 2
FRAME_MS = 500
COLOURS = 64  # of a frame: a third of the bytes of 256, and no difference that one would see
LAST_FRAME = 5  # times as long as the others


def training_frames(images: np.ndarray, titles: Sequence[str], columns: int) -> list[Image.Image]:
    """Draw one frame a title from images `(frames, n, 3, h, w) uint8`, row by row, as they are.

    Every pixel is enlarged to a square of 2×2.
    """
    height, width = (SCALE * size + GAP for size in images.shape[3:])
    rows = -(-images.shape[1] // columns)
    font, frames = ImageFont.load_default(FONT_SIZE), []
    for grid, title in zip(images, titles, strict=True):
        frame = Image.new("RGB", (columns * width + GAP, TITLE_HEIGHT + rows * height), "white")
        ImageDraw.Draw(frame).text((GAP, GAP), title, fill="black", font=font)
        for index, image in enumerate(grid):
            row, column = divmod(index, columns)
            enlarged = image.transpose(1, 2, 0).repeat(SCALE, 0).repeat(SCALE, 1)
            place = (GAP + column * width, TITLE_HEIGHT + row * height)
            frame.paste(Image.fromarray(enlarged), place)
        frames.append(frame)
    return frames


def write_gif(path: Path, frames: list[Image.Image]) -> None:
    """Write frames as an endless GIF that rests on the last one."""
    frames = [frame.quantize(COLOURS, dither=Image.Dither.NONE) for frame in frames]
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME * FRAME_MS]
    options = {"append_images": frames[1:], "duration": durations, "loop": 0}
    with atomic_path(path) as temporary:
        frames[0].save(temporary, save_all=True, **options)
