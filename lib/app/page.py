"""HTML of generated images: small PNGs inside the page, under headings, with captions."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from lib.app.downloads import png_bytes
from lib.app.generator import Opinions


def section(heading: str, note: str, figures: Sequence[str]) -> str:
    """Return a heading with a note beside it and figures below."""
    return (
        f'<section class="ig-class"><h3>{escape(heading)} <small>{escape(note)}</small></h3>'
        f'<div class="ig-grid">{"".join(figures)}</div></section>'
    )


def classed_figures(
    images: np.ndarray, seen: Opinions, wanted: int, names: Sequence[str]
) -> list[str]:
    """Return one figure an image of class `wanted`, with the class that the classifier sees."""
    figures = []
    for number, image in enumerate(images):
        opinion = _opinion(seen, number, names)
        agrees = seen.labels[number] == wanted
        text = f"Image {number + 1} of class {names[wanted]}; the classifier sees {opinion}"
        figures.append(figure(image, text, opinion, "" if agrees else "ig-other"))
    return figures


def path_figures(images: np.ndarray, seen: Opinions, names: Sequence[str]) -> list[str]:
    """Return one figure a step of an interpolation."""
    figures = []
    for step, image in enumerate(images):
        opinion = _opinion(seen, step, names)
        text = f"Step {step + 1} of {len(images)}; the classifier sees {opinion}"
        figures.append(figure(image, text, opinion))
    return figures


def figure(image: np.ndarray, alt: str, caption: str, kind: str = "") -> str:
    """Return a figure with the image `(3, h, w) uint8` as a PNG in its `src`."""
    data = base64.b64encode(png_bytes(image)).decode()
    return (
        f'<figure class="ig-image {kind}"><img src="data:image/png;base64,{data}" '
        f'alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def download_link(text: str, name: str, content: bytes, kind: str) -> str:
    """Return a link that saves `content` (media type `kind`) as the file `name`."""
    data = base64.b64encode(content).decode()
    return (
        f'<a class="ig-download" download="{escape(name)}" href="data:{kind};base64,{data}">'
        f"{escape(text)}</a>"
    )


def status(text: str) -> str:
    """Return a line that screen readers announce."""
    return f'<p class="ig-status" role="status">{escape(text)}</p>'


def alert(text: str) -> str:
    """Return a message of what is wrong."""
    return f'<p class="ig-alert" role="alert">{escape(text)}</p>'


def _opinion(seen: Opinions, index: int, names: Sequence[str]) -> str:
    return f"{names[seen.labels[index]]} · {seen.probabilities[index]:.0%}"
