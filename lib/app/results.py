"""Answers to requests: generated images as a page, a line of words and files to save."""

import io
import json
import re
import time
import zipfile
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image
from safetensors.numpy import save

from lib.app.generator import ImageGenerator, ImagesRequest, Opinions, PathRequest

GAP = 2  # white pixels between images
# Markup's `format` escapes what it puts in.
SECTION = Markup(
    '<section class="ig-class"><h3>{} <small>{}</small></h3><div class="ig-grid">{}</div></section>'
)
FIGURE = Markup(
    '<figure class="ig-image {}"><img src="data:image/png;base64,{}" alt="{}">'
    "<figcaption>{}<br>{}</figcaption></figure>"
)


@dataclass(frozen=True)
class Result:
    """`page`: HTML; `words`: one line; `files`: `{name: content}` for download."""

    page: str
    words: str
    files: dict[str, bytes]


def make_images(generator: ImageGenerator, request: ImagesRequest) -> Result:
    """Return images grouped by class, with the classifier's opinion of each."""
    z, labels = request.inputs(generator)
    images, timing, _ = timed_images(generator, z, labels, psi=request.truncation)
    seen, names = generator.opinions(images), generator.class_names
    recognised, page = seen.labels == labels, ""
    for label in request.labels:
        own = labels == label
        note = f"{recognised[own].sum()} of {request.per_class} recognised"
        opinions = Opinions(seen.labels[own], seen.probabilities[own])
        page += section(f"Class {names[label]}", note, images[own], opinions, names, label)
    record = asdict(request) | {"data": generator.data, "classes": names}
    files = {
        "images.png": png_grid(images[labels == label] for label in sorted(set(request.labels))),
        "images.zip": image_folder_zip(images, labels, z, names, record),
    }
    words = f"The classifier recognises {recognised.sum()} ({recognised.mean():.0%})."
    return Result(page, f"{timing} {words}", files)


def make_path(generator: ImageGenerator, request: PathRequest) -> Result:
    """Return the images on the way from one class and latent to another."""
    z, c = request.inputs(generator)
    images, timing, _ = timed_images(generator, z, c, psi=request.truncation)
    names = generator.class_names
    first, last = (names[label] for label in request.labels)
    note = f"latents of seeds {request.seeds[0]} and {request.seeds[1]}"
    heading = f"From class {first} to class {last}"
    page = section(heading, note, images, generator.opinions(images), names)
    return Result(page, timing, {"interpolation.png": png_grid([images])})


def compare_models(generator: ImageGenerator, request: ImagesRequest) -> Result:
    """Return the images of every network from the same latents, and how far each is from FP32."""
    z, labels = request.inputs(generator)
    names, made, page = generator.class_names, {}, ""
    for model in generator.models:
        images, _, speed = timed_images(generator, z, labels, model, request.truncation)
        made[model], seen = images, generator.opinions(images)
        recognised = int((seen.labels == labels).sum())
        note = f"{recognised} of {len(z)} recognised; {speed}"
        if model != "student":
            grey = np.abs(images.astype(int) - made["student"]).mean()
            note += f"; {grey:.1f} grey levels of 255 from the student's, on average"
        heading = model[0].upper() + model[1:]
        page += section(heading, note, images, seen, names, request.labels[0])
    words = f"{len(z)} latents of class {names[request.labels[0]]}, the same for every network."
    return Result(page, words, {"networks.png": png_grid(made.values())})


def timed_images(
    generator: ImageGenerator,
    z: np.ndarray,
    c: np.ndarray,
    model: str = "student",
    psi: float = 1.0,
) -> tuple[np.ndarray, str, str]:
    """Return the images of latents and classes, what is said of their time, and their speed."""
    started = time.perf_counter()
    images = generator.images(z, c, model, psi)
    seconds = time.perf_counter() - started
    speed = f"{len(z) / seconds:,.0f} images/s"
    return images, f"{len(z):,} images in {1000 * seconds:,.0f} ms ({speed}).", speed


def section(
    heading: str,
    note: str,
    images: np.ndarray,
    seen: Opinions,
    names: Sequence[str],
    wanted: int | None = None,
) -> Markup:
    """Return a heading with a note and below it a figure an image `(n, 3, h, w) uint8`.

    A caption tells the class that the classifier sees; images in which that is not the class
    `wanted` are marked. Without `wanted` the images are steps of a path.
    """
    before, after = "Step", f"of {len(images)}"
    if wanted is not None:
        before, after = "Image", f"of class {names[wanted]}"
    figures = Markup()
    for number, (image, label, share) in enumerate(zip(images, *seen, strict=True), 1):
        sees = names[label], f"{share:.0%}"
        mark = "" if wanted in (None, label) else "ig-other"
        alt = f"{before} {number} {after}; the classifier sees {' · '.join(sees)}"
        figures += FIGURE.format(mark, b64encode(png_bytes(image)).decode(), alt, *sees)
    return SECTION.format(heading, note, figures)


def png_bytes(image: np.ndarray) -> bytes:
    """Return `(3, h, w) uint8` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "PNG")
    return file.getvalue()


def png_grid(rows: Iterable[np.ndarray]) -> bytes:
    """Return rows of images, each `(n, 3, h, w) uint8`, as one PNG."""
    rows = list(rows)
    height, width = (side + GAP for side in rows[0].shape[2:])
    size = (len(rows) * height - GAP, max(map(len, rows)) * width - GAP)
    canvas = np.full((3, *size), 255, np.uint8)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            y, x = top * height, left * width
            canvas[:, y : y + height - GAP, x : x + width - GAP] = image
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
    files = {
        "request.json": json.dumps(record, indent=2).encode(),
        "latents.safetensors": save(arrays),
    }
    safe = [re.fullmatch(r"\w[\w .-]{0,99}", name) for name in names]  # as a folder's name
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = names[label] if safe[label] else f"class-{label}"
        files[f"{folder}/{index:05d}.png"] = png_bytes(image)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()
