"""The body of a page: contents, numbered figures, tables that a screen reader can follow, links."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag

from lib.common.errors import StudyError
from lib.common.files import NOTEBOOKS
from lib.publish.blog.images import embed

HEADINGS = ("h1", "h2", "h3", "h4", "h5")
WORDS_A_MINUTE, SECONDS_A_FIGURE = 230, 10
LONG_TABLE = 16  # rows, from which on a table is folded
NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?\s?%?|NaN|nan|inf|—|–")
ACTIVE = "script, style, link, meta, iframe, object, embed, video, audio, form, button"


@dataclass
class Page:
    """The body of a page and what is said about it."""

    body: str
    contents: list[dict] = field(default_factory=list)  # title, id, below: the same of h3
    minutes: int = 0  # to read
    figures: int = 0


def polish(body: str, places: dict[str, str], folder: Path, lossless: bool = True) -> Page:
    """Turn the notebooks' HTML into a page's body that needs nothing from elsewhere.

    `places` says on which page (`""`: this one) a notebook is, `folder` where the pages lie;
    `lossless`: pack pictures without loss.
    """
    soup = BeautifulSoup(body, "html.parser")
    for element in soup.select(ACTIVE):
        element.decompose()
    contents = _headings(soup)
    for number, figure in enumerate(soup.find_all("figure"), 1):
        _figure(soup, figure, number, lossless)
    for number, box in enumerate(soup.select("div.table"), 1):
        _table(soup, box, number)
    _links(soup, places, folder)
    for paragraph in soup.select("section.prose p"):
        if paragraph.find(True) and paragraph.get_text().startswith("Question: "):
            paragraph["class"] = "question"
    if loaded := soup.select_one("img:not([src^='data:']), source:not([srcset^='data:'])"):
        raise StudyError(f"picture {loaded.get('src')} of the post is not within its notebook")
    words = sum(len(part.get_text().split()) for part in soup.select("section.prose"))
    figures = len(soup.find_all("figure"))
    minutes = words / WORDS_A_MINUTE + figures * SECONDS_A_FIGURE / 60
    return Page(str(soup), contents, max(1, round(minutes)), figures)


def _headings(soup: BeautifulSoup) -> list[dict]:
    contents, taken = [], set()
    for heading in soup.find_all(HEADINGS):
        notebook = _own_notebook(heading)
        text = heading.get_text().strip()
        heading.name = f"h{int(heading.name[1]) + 1}"
        slug = notebook or _slug(text, taken)
        taken.add(slug)
        heading.attrs = {"id": slug}
        if notebook:
            text = re.sub(r"^\w\d · ", "", text)
            heading.string = text
            heading.insert_before(_source_line(soup, notebook))
        entry = {"title": text, "id": slug, "below": []}
        if heading.name == "h2":
            contents.append(entry)
        elif heading.name == "h3" and contents:
            contents[-1]["below"].append(entry)
    return contents


def _own_notebook(heading: Tag) -> str | None:
    section = heading.find_parent("section")
    name = section.get("data-notebook") if section else None
    if name:
        del section["data-notebook"]
        section["class"] = "prose chapter"
    return name


def _source_line(soup: BeautifulSoup, notebook: str) -> Tag:
    line = soup.new_tag("p", attrs={"class": "source"})
    link = soup.new_tag("a", href=f"../notebooks/{notebook}.ipynb")
    link.string = f"Notebook {notebook[:2]}"
    line.append(link)
    return line


def _slug(text: str, taken: set[str]) -> str:
    base = re.sub(r"\W+", "-", text.lower()).strip("-") or "section"
    slug, count = base, 1
    while slug in taken:
        count += 1
        slug = f"{base}-{count}"
    return slug


def _figure(soup: BeautifulSoup, figure: Tag, number: int, lossless: bool) -> None:
    """Number a figure, pack its picture and let a tick of a box show it at full size."""
    image, caption = figure.img, figure.figcaption
    figure["id"] = f"figure-{number}"
    still = embed(image, lossless)
    label = soup.new_tag("label", attrs={"class": "picture"})
    box = soup.new_tag("input", type="checkbox")
    box["aria-label"] = f"Show figure {number} at full size"
    image.wrap(label)
    if still:
        picture = image.wrap(soup.new_tag("picture"))
        media = {"media": "(prefers-reduced-motion: reduce)", "srcset": still}
        picture.insert(0, soup.new_tag("source", attrs=media))
    label.insert(0, box)
    name = soup.new_tag("b")
    name.string = f"Figure {number}."
    caption.insert(0, " ")
    caption.insert(0, name)


def _table(soup: BeautifulSoup, box: Tag, number: int) -> None:
    table = box.find("table")
    if table is None or not table.select("tbody tr"):
        box.decompose()
        return
    for element in [table, *table.find_all(True)]:
        element.attrs = {k: v for k, v in element.attrs.items() if k in ("rowspan", "colspan")}
    _drop_counting_column(table)
    rows = table.select("tbody tr")
    for header in table.find_all("th"):
        header["scope"] = "col" if header.find_parent("thead") else "row"
    for cell in table.find_all("td"):
        if NUMBER.fullmatch(cell.get_text().strip()):
            cell["class"] = "number"
    _align_heads(table)
    box.clear()
    box.attrs = {"class": "table", "role": "region", "tabindex": "0"}
    box["aria-label"] = f"Table {number}"
    box.append(table)
    if len(rows) >= LONG_TABLE:
        _fold(soup, box, f"Table of {len(rows)} rows")


def _drop_counting_column(table: Tag) -> None:
    """Take away pandas' row numbers, which say nothing: whole, rising, without a name above."""
    rows = [row.find(["th", "td"]) for row in table.select("tbody tr")]
    heads = [row.find(["th", "td"]) for row in table.select("thead tr")]
    texts = [cell.get_text().strip() for cell in rows if cell.name == "th"]
    if len(heads) != 1 or heads[0].get_text().strip() or len(texts) != len(rows):
        return
    if not all(map(str.isdecimal, texts)) or texts != sorted(set(texts), key=int):
        return
    for cell in [*rows, *heads]:
        cell.decompose()


def _align_heads(table: Tag) -> None:
    """Put the heads of columns of numbers above them, where each column has one head."""
    heads = [row.find_all("th") for row in table.select("thead tr")]
    columns = list(
        zip(*(row.find_all(["th", "td"]) for row in table.select("tbody tr")), strict=False)
    )
    if len(heads) == 1 and len(heads[0]) == len(columns):
        for head, column in zip(heads[0], columns, strict=True):
            if all(cell.get("class") == "number" for cell in column):
                head["class"] = "number"


def _fold(soup: BeautifulSoup, box: Tag, title: str) -> None:
    details = box.wrap(soup.new_tag("details", attrs={"class": "rows"}))
    summary = soup.new_tag("summary")
    summary.string = title
    details.insert(0, summary)


def _links(soup: BeautifulSoup, places: dict[str, str], folder: Path) -> None:
    """Lead links of the notebooks, which start at `notebooks/`, to where they belong here."""
    for link in soup.select("section.prose a[href]"):
        parts = urlsplit(link["href"])
        outside = parts.scheme or not parts.path or f"{parts.path}" in places.values()
        if link.find_parent(class_="source") or outside:
            continue
        name = Path(parts.path).stem
        if parts.path.endswith(".ipynb") and name in places:
            link["href"] = f"{places[name]}#{name}"
        elif not re.fullmatch(r"part\d\.html", parts.path):
            link["href"] = os.path.relpath(NOTEBOOKS / parts.path, folder)
