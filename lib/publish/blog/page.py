"""The body of a page: contents, numbered figures, tables that a screen reader can follow."""

import io
import itertools
import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT

HEADINGS = ("h1", "h2", "h3", "h4", "h5")
WORDS_A_MINUTE, SECONDS_A_FIGURE = 230, 10
ACTIVE = "script, style, link, meta, iframe, object, embed, video, audio, form, button"


@dataclass
class Page:
    """The body of a page and what is said about it."""

    body: str
    contents: list[dict] = field(default_factory=list)  # title, id, below: the same of h3
    minutes: int = 0  # to read
    figures: int = 0


def polish(body: str, folder: Path, lossless: bool = True) -> Page:
    """Turn a post's HTML into a page's body that needs nothing from elsewhere.

    `folder` is where the page will lie; `lossless`: pack pictures without loss.
    """
    soup = BeautifulSoup(body, "html.parser")
    for element in soup.select(ACTIVE):
        element.decompose()
    contents = _headings(soup)
    for number, figure in enumerate(soup.find_all("figure"), 1):
        _figure(soup, figure, number, lossless)
    for number, table in enumerate(soup.find_all("table"), 1):
        _table(soup, table, number)
    _links(soup, folder)
    if loaded := soup.select_one("img:not([src^='data:']), source:not([srcset^='data:'])"):
        raise StudyError(f"picture {loaded.get('src')} of a post is no figure of the study")
    words = sum(len(part.get_text().split()) for part in soup.select("section.prose"))
    figures = len(soup.find_all("figure"))
    minutes = words / WORDS_A_MINUTE + figures * SECONDS_A_FIGURE / 60
    return Page(str(soup), contents, max(1, round(minutes)), figures)


def _headings(soup: BeautifulSoup) -> list[dict]:
    """Lower headings by a level and give them ids; return the contents."""
    contents, taken = [], set()
    for heading in soup.find_all(HEADINGS):
        text = heading.get_text().strip()
        slug = _slug(text, taken)
        taken.add(slug)
        heading.name, heading.attrs = f"h{int(heading.name[1]) + 1}", {"id": slug}
        entry = {"title": text, "id": slug, "below": []}
        if heading.name == "h2":
            contents.append(entry)
        elif heading.name == "h3" and contents:
            contents[-1]["below"].append(entry)
    return contents


def _tag(soup: BeautifulSoup, name: str, text: str = "", classes: str = "", **attrs: str) -> Tag:
    tag = soup.new_tag(name, attrs=attrs | ({"class": classes} if classes else {}))
    tag.string = text
    return tag


def _slug(text: str, taken: set[str]) -> str:
    base = re.sub(r"\W+", "-", text.lower()).strip("-") or "section"
    slugs = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return next(slug for slug in slugs if slug not in taken)


def _figure(soup: BeautifulSoup, figure: Tag, number: int, lossless: bool) -> None:
    """Number a figure, pack its picture and let a tick of a box show it at full size."""
    image, caption = figure.img, figure.figcaption
    figure["id"] = f"figure-{number}"
    still = embed(image, lossless)
    box = _tag(soup, "input", type="checkbox")
    box["aria-label"] = f"Show figure {number} at full size"
    image.wrap(_tag(soup, "label", classes="picture")).insert(0, box)
    if still:
        media = {"media": "(prefers-reduced-motion: reduce)", "srcset": still}
        image.wrap(_tag(soup, "picture")).insert(0, _tag(soup, "source", **media))
    caption.insert(0, " ")
    caption.insert(0, _tag(soup, "b", f"Figure {number}."))


def embed(image: Tag, lossless: bool = True) -> str | None:
    """Pack the picture of an `<img>` with data and tell its size; return a still, if it moves.

    PNGs become WebP, `lossless` about half as large; GIFs stay as they are, and the still is the
    data URI of their last frame.
    """
    data, buffer = b64decode(image["src"].partition(",")[2]), io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        moves = getattr(picture, "n_frames", 1) > 1
        if moves:
            picture.seek(picture.n_frames - 1)
        clear = picture.mode == "RGBA" and picture.getextrema()[3][0] < 255
        packed = picture.convert("RGBA" if clear else "RGB")
        packed.save(buffer, "WEBP", lossless=lossless, quality=85, method=4)
        image["width"], image["height"] = str(picture.width), str(picture.height)
    uri = "data:image/webp;base64," + b64encode(buffer.getvalue()).decode()
    if moves:
        return uri
    image["src"] = uri
    return None


def _table(soup: BeautifulSoup, table: Tag, number: int) -> None:
    """Strip a table of its looks, but for the side to which its columns lean; let it scroll."""
    for element in [table, *table.find_all(True)]:
        leans_right = "right" in element.get("style", "")
        element.attrs = {k: v for k, v in element.attrs.items() if k in ("rowspan", "colspan")}
        if leans_right:
            element["class"] = "number"
        if element.name == "th":
            element["scope"] = "col" if element.find_parent("thead") else "row"
    box = _tag(soup, "div", classes="table", role="region", tabindex="0")
    box["aria-label"] = f"Table {number}"
    table.wrap(box)


def _links(soup: BeautifulSoup, folder: Path) -> None:
    """Lead links of the texts, which start at the study's root, to where they belong here."""
    for link in soup.select("section.prose a[href]"):
        parts = urlsplit(link["href"])
        if not parts.scheme and parts.path and not re.fullmatch(r"part\d\.html", parts.path):
            link["href"] = os.path.relpath(ROOT / parts.path, folder)
