"""A training's course as an animated GIF: the same latents, frame by frame, under a title."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.common.files import atomic_path

TITLE_HEIGHT, FONT_SIZE, GAP = 30, 18, 2
COLOURS = 64  # of a frame: a third of the bytes of 256, and no difference that one would see
LAST_FRAME = 5  # times as long as the others


def training_frames(
    images: np.ndarray, titles: Sequence[str], columns: int, scale: int = 2
) -> list[Image.Image]:
    """Draw one frame a title from images `(frames, n, 3, h, w) uint8`, row by row, as they are.

    `scale` enlarges every pixel to a square of so many pixels.
    """
    return [_frame(grid, title, columns, scale) for grid, title in zip(images, titles, strict=True)]


def write_gif(path: Path, frames: list[Image.Image], frame_ms: int = 500) -> None:
    """Write frames as an endless GIF that rests on the last one."""
    frames = [frame.quantize(COLOURS, dither=Image.Dither.NONE) for frame in frames]
    durations = [frame_ms] * (len(frames) - 1) + [LAST_FRAME * frame_ms]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=durations, loop=0
        )


def _frame(images: np.ndarray, title: str, columns: int, scale: int) -> Image.Image:
    height, width = (scale * size + GAP for size in images.shape[2:])
    rows = -(-len(images) // columns)
    frame = Image.new("RGB", (columns * width + GAP, TITLE_HEIGHT + rows * height), "white")
    font = ImageFont.load_default(FONT_SIZE)
    ImageDraw.Draw(frame).text((GAP, GAP), title, fill="black", font=font)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        enlarged = image.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        place = (GAP + column * width, TITLE_HEIGHT + row * height)
        frame.paste(Image.fromarray(enlarged), place)
    return frame
