"""Answers to requests: generated images as a page, a line of words and files to save."""

import time
from dataclasses import asdict, dataclass, field

import numpy as np

from lib.app.downloads import image_folder_zip, png_grid
from lib.app.generator import ImageGenerator
from lib.app.page import classed_figures, path_figures, section
from lib.app.requests import ImagesRequest, PathRequest


@dataclass(frozen=True)
class Result:
    """`page`: HTML; `words`: one line; `files`: `{name: content}` for download."""

    page: str
    words: str
    files: dict[str, bytes] = field(default_factory=dict)


def make_images(generator: ImageGenerator, request: ImagesRequest) -> Result:
    """Return images grouped by class, with the classifier's opinion of each."""
    z, labels = request.inputs(generator)
    started = time.perf_counter()
    images = generator.images(z, labels)
    seconds = time.perf_counter() - started
    seen, names = generator.opinions(images), generator.class_names
    sections = []
    for label in request.labels:
        own = labels == label
        right = int((seen.labels[own] == label).sum())
        figures = classed_figures(images[own], seen.of(own), label, names)
        note = f"{right} of {request.per_class} recognized"
        sections.append(section(f"Class {names[label]}", note, figures))
    record = asdict(request) | {"data": generator.data, "classes": names}
    files = {
        "images.png": png_grid(images, labels),
        "images.zip": image_folder_zip(images, labels, z, names, record),
    }
    right = int((seen.labels == labels).sum())
    words = f"{timing(len(z), seconds)} The classifier recognizes {right} ({right / len(z):.0%})."
    return Result("".join(sections), words, files)


def make_path(generator: ImageGenerator, request: PathRequest) -> Result:
    """Return the images on the way from one class and latent to another."""
    z, c = request.inputs(generator)
    started = time.perf_counter()
    images = generator.images(z, c)
    seconds = time.perf_counter() - started
    names = generator.class_names
    first, last = (names[label] for label in request.labels)
    figures = path_figures(images, generator.opinions(images), names)
    note = f"latents of seeds {request.seeds[0]} and {request.seeds[1]}"
    page = section(f"From class {first} to class {last}", note, figures)
    files = {"interpolation.png": png_grid(images, [0] * len(images))}
    return Result(page, timing(len(z), seconds), files)


def compare_models(generator: ImageGenerator, request: ImagesRequest) -> Result:
    """Return the images of every network from the same latents, and how far each is from FP32."""
    z, labels = request.inputs(generator)
    names, made, pages = generator.class_names, {}, []
    for model in generator.models:
        started = time.perf_counter()
        made[model] = generator.images(z, labels, model)
        seconds = time.perf_counter() - started
        seen = generator.opinions(made[model])
        right = int((seen.labels == labels).sum())
        note = f"{right} of {len(z)} recognized; {len(z) / seconds:,.0f} images/s"
        if model != "student":
            grey = np.abs(made[model].astype(int) - made["student"]).mean()
            note += f"; {grey:.1f} grey levels of 255 from the student's, on average"
        figures = classed_figures(made[model], seen, request.labels[0], names)
        pages.append(section(model[0].upper() + model[1:], note, figures))
    rows = np.repeat(np.arange(len(made)), len(z))
    files = {"networks.png": png_grid(np.concatenate(list(made.values())), rows)}
    words = f"{len(z)} latents of class {names[request.labels[0]]}, the same for every network."
    return Result("".join(pages), words, files)


def timing(n: int, seconds: float) -> str:
    """Say how long `n` images took."""
    return f"{n:,} images in {1000 * seconds:,.0f} ms ({n / seconds:,.0f} images/s)."
