"""Generated images as files: one PNG of all, or a ZIP of class folders with the latents."""

import io
import json
import re
import zipfile
from collections.abc import Sequence

import numpy as np
from PIL import Image
from safetensors.numpy import save

GAP = 2  # white pixels between images
LATENTS, RECORD = "latents.safetensors", "request.json"


def png_bytes(image: np.ndarray) -> bytes:
    """Return `(3, h, w) uint8` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "PNG")
    return file.getvalue()


def png_grid(images: np.ndarray, rows: Sequence[int]) -> bytes:
    """Return images `(n, 3, h, w) uint8` as one PNG, one row for each number of `rows (n,)`."""
    found, counts = np.unique(rows, return_counts=True)
    height, width = (side + GAP for side in images.shape[2:])
    canvas = np.full((3, len(found) * height - GAP, counts.max() * width - GAP), 255, np.uint8)
    for row, number in enumerate(found):
        for column, image in enumerate(images[np.asarray(rows) == number]):
            top, left = row * height, column * width
            canvas[:, top : top + height - GAP, left : left + width - GAP] = image
    return png_bytes(canvas)


def image_folder_zip(
    images: np.ndarray, labels: np.ndarray, latents: np.ndarray, names: Sequence[str], record: dict
) -> bytes:
    """Return a ZIP in torchvision's `ImageFolder` layout: `<class>/NNNNN.png`.

    With it `latents.safetensors` (`latents (n, z_dim) float32`, `labels (n,) int64`; row NNNNN for
    image NNNNN) and `request.json`, the `record` of how they were made. Equal input gives equal
    bytes.
    """
    arrays = {"latents": np.ascontiguousarray(latents), "labels": labels.astype(np.int64)}
    files = {RECORD: json.dumps(record, indent=2).encode(), LATENTS: save(arrays)}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        files[f"{folder_name(names, label)}/{index:05d}.png"] = png_bytes(image)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()


def folder_name(names: Sequence[str], label: int) -> str:
    """Return a class's folder: its name, or `class-<label>` where that is no safe file name."""
    name = names[label]
    return name if re.fullmatch(r"\w[\w .-]{0,99}", name) else f"class-{label}"
