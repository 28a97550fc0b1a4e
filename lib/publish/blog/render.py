"""Render two posts: texts written by hand, numbers from tables, figures from the notebooks.

A text lies in `template/<part>.md`: title, standfirst, then Markdown in which `{{ value(…) }}`
stands for a number (`lib.publish.blog.numbers`) and a line `![[name]]` for a figure of that name,
with the code that drew it.
"""

import hashlib
import re
from base64 import b64decode
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter

from lib.common.errors import StudyError
from lib.common.files import read_json, write_text
from lib.publish.blog.numbers import check_typed, fill
from lib.publish.blog.page import polish

TEMPLATE = Path(__file__).resolve().parent / "template"
TEXTS = TEMPLATE
PARTS = ("part1", "part2")
LARGEST = 2_500_000  # bytes of a page
FIGURE = re.compile(r"^!\[\[(\w+)\]\]$", re.MULTILINE)
PICTURES = ("image/png", "image/gif")


@dataclass(frozen=True)
class Post:
    """A part: its title, what stands below it, and its text, whose numbers are filled in."""

    title: str
    standfirst: str
    text: str

    @classmethod
    def read(cls, part: str, folder: Path) -> "Post":
        """Read `<part>.md` with the numbers of the profile in `folder`."""
        source = (TEXTS / f"{part}.md").read_text(encoding="utf-8")
        check_typed(source, f"{part}.md")
        title, standfirst, text = fill(source, folder, f"{part}.md").split("\n", 2)
        return cls(title.removeprefix("# "), standfirst, text)


def write_blog(folder: Path) -> list[Path]:
    """Write `folder/blog/part1.html` and `part2.html` of a profile that was run.

    The pages load nothing from elsewhere, hold no script, and are the same bytes for the same
    texts, tables, notebooks and manifest. A number typed by hand, a table or figure that is
    missing, and a figure without a description are a `StudyError`.
    """
    if not (folder / "manifest.json").is_file():
        raise StudyError(f"{folder} holds no run: run the study first")
    posts = {part: Post.read(part, folder) for part in PARTS}
    figures, pages = Figures(folder), {}
    for part in PARTS:
        path = folder / "blog" / f"{part}.html"
        for lossless in (True, False):  # with losses only where the page is too large without
            pages[path] = render(part, posts, figures, path.parent, lossless)
            if len(pages[path].encode()) <= LARGEST:
                break
        else:
            raise StudyError(
                f"{path} would be larger than {LARGEST / 1e6:g} MB: name fewer figures or draw "
                "smaller ones"
            )
    for path, html in pages.items():
        write_text(path, html)
    return list(pages)


class Figures:
    """The figures of a profile, each with the cell of its executed notebook."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cells, ends = folder, {}, []
        manifest = read_json(folder / "manifest.json")
        reports = manifest["reports"] | manifest["measured_reports"]
        self.drawn = {
            Path(name).stem: entry["sha256"]
            for name, entry in reports.items()
            if name.startswith("figures/")
        }
        for path in sorted((folder / "notebooks").glob("*.ipynb")):
            notebook = read_notebook(path)
            ends.append(notebook.metadata.get("papermill", {}).get("end_time"))
            for cell in notebook.cells:
                for output in cell.get("outputs", []):
                    for kind in set(PICTURES) & set(output.get("data", {})):
                        key = _digest(b64decode(output["data"][kind]))
                        self.cells[key] = path.stem, cell, output, kind
        self.ended = max(filter(None, ends), default="")

    def cell(self, name: str) -> NotebookNode:
        """Return the cell that drew the figure `name`, with that figure as its only output."""
        found = self.cells.get(self.drawn.get(name))
        if not found:
            raise StudyError(
                f"figure {name} is in no executed notebook of {self.folder}: run the study again "
                f"--from {name[:2]}"
            )
        notebook, cell, output, kind = found
        about = output.get("metadata", {}).get(kind, {})
        if not (about.get("alt", "").strip() and about.get("caption", "").strip()):
            raise StudyError(f"figure {name} of {notebook} has no description: give it one")
        cell, output = deepcopy(cell), deepcopy(output)
        output.output_type, cell.outputs = "display_data", [output]
        output.pop("execution_count", None)
        cell.metadata = {"notebook": notebook}
        return cell


def read_notebook(path: Path) -> NotebookNode:
    """Read an executed notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # whatever nbformat makes of bytes that are no notebook
        again = f"run the study again --from {path.name[:2]}"
        raise StudyError(f"{path} is no readable notebook: {again}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def render(
    part: str, posts: dict[str, Post], figures: Figures, folder: Path, lossless: bool
) -> str:
    """Return the page of a part, which will lie in `folder`; `lossless`: pack pictures so."""
    pieces = FIGURE.split(posts[part].text)
    cells = [
        figures.cell(piece) if position % 2 else new_markdown_cell(piece.strip())
        for position, piece in enumerate(pieces)
        if position % 2 or piece.strip()
    ]
    for position, cell in enumerate(cells):
        cell.id = f"cell-{position}"
    exporter = HTMLExporter(
        extra_template_basedirs=[str(TEMPLATE.parent)],
        template_name=TEMPLATE.name,
        exclude_anchor_links=True,
    )
    whole = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    drawn = [cell.metadata["notebook"] for cell in cells if cell.cell_type == "code"]
    return exporter.environment.get_template("page.html.j2").render(
        part=part,
        posts=posts,
        page=polish(exporter.from_notebook_node(whole)[0], folder, lossless),
        notebooks=sorted(set(drawn)),
        run=describe_run(figures),
        style=(TEMPLATE / "style.css").read_text(encoding="utf-8"),
        light=HtmlFormatter(style="default").get_style_defs(".highlight"),
        dark=HtmlFormatter(style="github-dark").get_style_defs(".highlight"),
    )


def describe_run(figures: Figures) -> dict:
    """Return what a reader should know of the run: date, versions, processor, data, seed."""
    manifest = read_json(figures.folder / "manifest.json")
    date = datetime.fromisoformat(figures.ended) if figures.ended else None
    return {key: manifest[key] for key in ("profile", "parameters", "environment")} | {
        "date": f"{date.day} {date:%B %Y}" if date else "",
        "machine_date": f"{date:%Y-%m-%d}" if date else "",
    }
