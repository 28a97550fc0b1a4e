"""Pixels arrive as they are or not at all."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lib.common.errors import StudyError
from lib.data.images import is_image, read_image

GREY = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64  # 0 … 65472
SIZE = (32, 32)


def stored(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_pixels_of_unknown_range_are_refused(kind):
    content = stored(Image.fromarray(GREY.astype(kind)), "TIFF")
    with pytest.raises(StudyError, match="x.tif has pixels of .*: save it as an 8-bit RGB or grey"):
        read_image(content, "x.tif")


def test_what_is_transparent_lies_on_white():
    clear, half = (200, 0, 0, 0), (200, 0, 0, 128)
    for pixel, seen in ((clear, (255, 255, 255)), (half, (227, 127, 127))):
        image = read_image(stored(Image.new("RGBA", SIZE, pixel)))
        np.testing.assert_allclose(image[:, 0, 0], seen, atol=1)
    image = read_image(stored(Image.new("LA", SIZE, (10, 0))))
    assert (image == 255).all()
    palette = Image.new("P", SIZE, 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    np.testing.assert_array_equal(read_image(stored(palette))[:, 0, 0], [9, 8, 7])
    assert (read_image(stored(palette, transparency=1)) == 255).all()
    sixteen = Image.fromarray(np.full(SIZE, 4660, np.uint16))
    assert (read_image(stored(sixteen, transparency=4660)) == 255).all()


@pytest.mark.parametrize(
    ("mode", "pixel", "kind", "seen"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("L", 77, "BMP", (77, 77, 77)),
        ("RGB", (1, 2, 3), "WEBP", (1, 2, 3)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("L", 77, "JPEG", (77, 77, 77)),
    ],
)
def test_other_kinds_become_rgb(mode, pixel, kind, seen):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(stored(Image.new(mode, SIZE, pixel), kind, **options))
    np.testing.assert_allclose(image[:, 5, 5], seen, atol=2)


def test_rotation_that_the_camera_noted_is_carried_out():
    image = Image.new("RGB", SIZE)
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    assert read_image(stored(image, exif=exif))[0, 0, 31] == 255


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_images_are_refused(kind):
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue", "green")]
    content = stored(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(StudyError, match="film has 3 frames: keep the one that you mean"):
        read_image(content, "film")


def test_endings_of_images():
    taken = ["a.JPG", "a.jfif", "a.Png", "a.TIFF", "a.webp", "a.pgm", "a.jpe"]
    assert all(is_image(name) for name in taken)
    assert not any(is_image(name) for name in (".a.png", "png", "a.txt", "a.npy", "a.svg"))


def test_images_that_do_harm_are_refused():
    rows = b"P6 60000 60000 255\n"
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n"
    for content in (rows, b"P6 32 x", eps, b""):
        with pytest.raises(StudyError, match="photo.png"):
            read_image(content, "photo.png")


def test_sixteen_bits_of_grey_keep_the_upper_eight():
    image = Image.fromarray(GREY)
    maps = b"P5 32 32 65535\n" + GREY.astype(">u2").tobytes()
    for content in (stored(image), stored(image, "TIFF"), maps):
        np.testing.assert_array_equal(read_image(content), np.repeat((GREY >> 8)[None], 3, 0))
    from_white = read_image(stored(image, "TIFF", tiffinfo={262: 0}))
    np.testing.assert_array_equal(from_white[0], (65535 - GREY) >> 8)


@pytest.mark.parametrize(("bits", "step"), [(2, 85), (4, 17)])
def test_the_transparent_grey_of_few_bits_lies_on_white(bits, step):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    row = b"\0" + bytes([0x11 if bits == 4 else 0x55]) * (32 * bits // 8)  # each pixel is 1
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, bits, 0, 0, 0, 0))]
    shown = b"\x89PNG\r\n\x1a\n" + parts[0] + chunk(b"IDAT", zlib.compress(row * 32))
    assert (read_image(shown + chunk(b"IEND", b"")) == step).all()
    hidden = shown[: 8 + len(parts[0])] + chunk(b"tRNS", struct.pack(">H", 1))
    hidden += shown[8 + len(parts[0]) :] + chunk(b"IEND", b"")
    assert (read_image(hidden) == 255).all()


def test_what_is_no_image_is_said_without_an_address():
    with pytest.raises(StudyError, match="^a.png is a pointer of Git LFS: run git lfs pull$"):
        read_image(b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a.png")
    with pytest.raises(
        StudyError, match="^a.png is no image of a known kind: replace or remove it$"
    ):
        read_image(b"<html>", "a.png")


def test_an_image_of_any_size_fills_another():
    image = Image.new("RGB", (90, 30), (10, 20, 30))
    image.paste((200, 0, 0), (0, 0, 25, 30))  # what lies left of the middle is cut off
    found = read_image(stored(image), fill=(16, 16))
    assert found.shape == (3, 16, 16)
    assert (found == np.array([10, 20, 30]).reshape(3, 1, 1)).all()
