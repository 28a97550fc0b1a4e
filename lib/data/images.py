"""One image of a file: its pixels as they are, or a reason why not."""

import io
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError

from lib.common.errors import StudyError
from lib.common.files import LFS

SIDE = 32
SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp"}
SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP")
BACKGROUND = "white"  # of transparent images
EIGHT_BITS = ("1", "L", "P", "RGB", "YCbCr", "CMYK")
PHOTOMETRIC, SAMPLE_FORMAT = 262, 339  # tags of TIFF
SCALES = {"L;2": 85, "L;4": 17}  # of grey in 2 and 4 bits to 8
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for an image; hidden ones are not."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def read_image(
    source: Path | bytes, name: str = "", fill: tuple[int, int] | None = None
) -> np.ndarray:
    """Read one image, a file or its content, as `(3, 32, 32) uint8`.

    Grey, palette, YCbCr and CMYK become RGB, 16-bit grey its upper 8 bits; what is transparent
    lies on white; a rotation that the file's EXIF data ask for is carried out. `fill`: height and
    width of the result in place of 32×32; the image, of any size, is resized to fill them and its
    middle kept. Else another size, and always several frames, pixels whose range nothing states
    (32-bit integers, floating-point numbers) and damage are `StudyError`s, which call the image
    `name`.
    """
    name = name or str(source)
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        if content.startswith(LFS):
            raise StudyError(f"{name} is a pointer of Git LFS: run git lfs pull")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if fill is None and image.size != (SIDE, SIDE):
                size = f"{image.width}×{image.height} pixels, the study takes 32×32"
                raise StudyError(f"{name} is {size}: resize the images first")
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise StudyError(f"{name} has {frames} frames: keep the one that you mean")
            found = _upright_rgb(image, name)
            if fill is not None:
                found = ImageOps.fit(found, fill[::-1], Image.Resampling.LANCZOS)
            return np.asarray(found).transpose(2, 0, 1)
    except UnidentifiedImageError as error:
        raise StudyError(f"{name} is no image of a known kind: replace or remove it") from error
    except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:
        raise StudyError(f"{name} cannot be read as an image ({error}): replace it") from error


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert an image of any kind to 8-bit RGB."""
    sixteen_bits = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    tags, stored = getattr(image, "tag_v2", {}), str(image.tile[0][3]) if image.tile else ""
    if image.mode in EIGHT_BITS and 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)):
        raise StudyError(f"{name} has signed pixels: save it as an 8-bit RGB or grey image")
    if "transparency" in image.info and "RGB;16" in stored:
        raise StudyError(f"{name} has 16 bits and one transparent colour: save it with 8 bits")
    if "transparency" in image.info and stored in SCALES:  # Pillow scales the pixels alone
        image.info["transparency"] *= SCALES[stored]
    image = ImageOps.exif_transpose(image)
    if sixteen_bits:
        values = np.asarray(image).astype(np.int64)
        values = 65535 - values if tags.get(PHOTOMETRIC) == 0 else values  # 0 is white
        upper = np.where(values == image.info.get("transparency"), 255, values >> 8)
        image = Image.fromarray(upper.astype(np.uint8))  # Pillow itself would clip at 255
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    elif image.mode not in EIGHT_BITS:
        kind = {"I": "32-bit integers", "F": "floating-point numbers"}.get(image.mode, image.mode)
        raise StudyError(f"{name} has pixels of {kind}: save it as an 8-bit RGB or grey image")
    return image.convert("RGB")
