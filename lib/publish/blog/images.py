"""Pictures within a page: packed, with their size, a still beside an animation."""

import base64
import io

from bs4 import Tag
from PIL import Image


def embed(image: Tag, lossless: bool = True) -> str | None:
    """Pack the picture of an `<img>` with data and tell its size; return a still, if it moves.

    PNGs become WebP, `lossless` about half as large; GIFs stay as they are, and the still is the
    data URI of their last frame.
    """
    data = base64.b64decode(image["src"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        moves = getattr(picture, "n_frames", 1) > 1
        if moves:
            picture.seek(picture.n_frames - 1)
        packed = _webp(picture, lossless)
        image["width"], image["height"] = str(picture.width), str(picture.height)
    if moves:
        return packed
    image["src"] = packed
    return None


def _webp(picture: Image.Image, lossless: bool) -> str:
    buffer = io.BytesIO()
    mode = "RGBA" if _transparent(picture) else "RGB"
    picture.convert(mode).save(buffer, "WEBP", lossless=lossless, quality=85, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _transparent(picture: Image.Image) -> bool:
    if picture.mode != "RGBA":
        return False
    return picture.getextrema()[3][0] < 255
