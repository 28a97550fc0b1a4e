"""Render executed notebooks as a post in two parts.

What frames the notebooks of a part (its title, opening, transitions and closing) lies in
`template/<part>.md`, where a line `[[notebook]]` stands for a notebook's cells.
"""

import re
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
from lib.publish.blog.page import polish

TEMPLATE = Path(__file__).resolve().parent / "template"
PARTS = ("part1", "part2")
LARGEST = 5_000_000  # bytes of a page
INCLUDED = re.compile(r"^\[\[(\w+)\]\]$", re.MULTILINE)
HIDDEN_TAGS = {"parameters", "injected-parameters"}
IDLE_HEADING = re.compile(r"(\A|\n)#+ [^\n]*\s*\Z")
NOISE = re.compile(
    r"[\w.+-]+: (unchanged, reused|making|trying again what failed)"  # lib.study.study
    r"|POT's environment: making .*"  # lib.quantization.pot.engine
    r"|.*: [\d,]+(/[\d,]+)? \S+( in \d+ s)?, [\d.e+]+/s.*"  # lib.common.progress
    r"|.*\d+%\|.*"  # tqdm
)


@dataclass(frozen=True)
class Frame:
    """What stands around the notebooks of a part."""

    title: str
    standfirst: str
    pieces: list[str]  # prose and names of notebooks in turn, prose first and last

    @classmethod
    def read(cls, part: str) -> "Frame":
        """Read `<part>.md`: title, standfirst, then the text."""
        text = (TEMPLATE / f"{part}.md").read_text(encoding="utf-8")
        title, standfirst, rest = text.split("\n", 2)
        return cls(title.removeprefix("# "), standfirst, INCLUDED.split(rest))

    @property
    def notebooks(self) -> list[str]:
        """Names of the notebooks of the part, in order."""
        return self.pieces[1::2]


def write_blog(folder: Path) -> list[Path]:
    """Write `folder/blog/part1.html` and `part2.html` from the profile's executed notebooks.

    The pages load nothing from elsewhere, hold no script, and are the same bytes for the same
    notebooks and manifest. Notebooks that are missing, failed or were not executed, and pictures
    without a description, are a `StudyError`.
    """
    frames = {part: Frame.read(part) for part in PARTS}
    notebooks = {
        name: read_executed(folder / "notebooks" / f"{name}.ipynb")
        for frame in frames.values()
        for name in frame.notebooks
    }
    run, pages = describe_run(folder, notebooks), {}
    for part in PARTS:
        path = folder / "blog" / f"{part}.html"
        for lossless in (True, False):  # with losses only where the page is too large without
            pages[path] = render(part, frames, notebooks, run, path.parent, lossless)
            if len(pages[path].encode()) <= LARGEST:
                break
        else:
            raise StudyError(
                f"{path} would be larger than {LARGEST / 1e6:.0f} MB: "
                "draw fewer or smaller pictures in its notebooks"
            )
    for path, html in pages.items():
        write_text(path, html)
    return list(pages)


def read_executed(path: Path) -> NotebookNode:
    """Read a notebook that was executed to its end without error."""
    again = f"run `python -m lib run params/{path.parents[1].name}.yaml --from {path.name[:2]}`"
    if not path.exists():
        raise StudyError(f"{path} is missing: {again} first")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # whatever nbformat makes of bytes that are no notebook
        raise StudyError(f"{path} is no readable notebook: {again} again") from error
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if not any(cell.execution_count or cell.outputs for cell in cells):
        raise StudyError(f"{path} was not executed: {again}")
    for output in (output for cell in cells for output in cell.outputs):
        if output.output_type == "error":
            raise StudyError(f"{path} holds an error ({output.ename}): {again} again")
    return notebook


def render(
    part: str,
    frames: dict[str, Frame],
    notebooks: dict[str, NotebookNode],
    run: dict,
    folder: Path,
    lossless: bool,
) -> str:
    """Return the page of a part: its frame with the cells of its notebooks in their places.

    `folder` is where the page will lie; `lossless`: pack pictures without loss.
    """
    cells = []
    for position, piece in enumerate(frames[part].pieces):
        if position % 2:
            cells += published_cells(notebooks[piece], piece)
        elif piece.strip():
            cells.append(new_markdown_cell(piece.strip()))
    for position, cell in enumerate(cells):
        cell.id = f"cell-{position}"
    exporter = HTMLExporter(
        extra_template_basedirs=[str(TEMPLATE.parent)],
        template_name=TEMPLATE.name,
        exclude_anchor_links=True,
    )
    whole = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    places = {
        name: "" if other == part else f"{other}.html"
        for other, frame in frames.items()
        for name in frame.notebooks
    }
    return exporter.environment.get_template("page.html.j2").render(
        part=part,
        frames=frames,
        page=polish(exporter.from_notebook_node(whole)[0], places, folder, lossless),
        run=run,
        style=(TEMPLATE / "style.css").read_text(encoding="utf-8"),
        light=HtmlFormatter(style="default").get_style_defs(".highlight"),
        dark=HtmlFormatter(style="github-dark").get_style_defs(".highlight"),
    )


def describe_run(folder: Path, notebooks: dict[str, NotebookNode]) -> dict:
    """Return what a reader should know of the run: date, versions, processor, data, seed."""
    manifest = read_json(folder / "manifest.json")
    ends = [book.metadata.get("papermill", {}).get("end_time") for book in notebooks.values()]
    date = datetime.fromisoformat(max(filter(None, ends))) if any(ends) else None
    return {key: manifest[key] for key in ("profile", "parameters", "environment")} | {
        "date": f"{date.day} {date:%B %Y}" if date else "",
        "machine_date": f"{date:%Y-%m-%d}" if date else "",
    }


def published_cells(notebook: NotebookNode, name: str) -> list[NotebookNode]:
    """Return the cells of an executed notebook as they are published.

    Left out are parameters, the check at the end, what is said of the run itself, and headings
    below which nothing is left. Code without a result joins the code that follows it.
    """
    cells = []
    for cell in deepcopy(notebook.cells):
        if cell.cell_type == "code":
            checks = not cell.source.strip() or cell.source.startswith("# NBVAL_CHECK_OUTPUT")
            if checks or HIDDEN_TAGS & set(cell.metadata.get("tags", [])):
                continue
            cell.outputs = [output for output in cell.outputs if _kept(output, name)]
            if cells and cells[-1].cell_type == "code" and not cells[-1].outputs:
                cell.source = f"{cells.pop().source}\n\n{cell.source}"
        cells.append(cell)
    first = next(cell for cell in cells if cell.cell_type == "markdown")
    texts = first.source.split("\n\n")
    first.source = "\n\n".join(text for text in texts if not text.startswith("**Run time**"))
    first.metadata["notebook"] = name
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        idle = after is None or (after.cell_type == "markdown" and after.source.startswith("#"))
        if cell.cell_type == "markdown" and idle:
            cell.source = IDLE_HEADING.sub("", cell.source)
    return [cell for cell in cells if cell.source.strip()]


def _kept(output: NotebookNode, name: str) -> bool:
    """Tell whether an output is published; take noise out of it, refuse a picture without words."""
    if output.output_type == "stream":
        lines = [line.rpartition("\r")[2] for line in output.text.split("\n")]
        output.text = "\n".join(line for line in lines if not NOISE.fullmatch(line)).strip("\n")
        return output.name == "stdout" and bool(output.text.strip())
    output.output_type = "display_data"  # results of expressions are shown alike
    output.pop("execution_count", None)
    for kind in {"image/png", "image/gif"} & set(output.get("data", {})):
        about = output.metadata.get(kind, {})
        if not (about.get("alt", "").strip() and about.get("caption", "").strip()):
            raise StudyError(
                f"a picture in {name} has no description: display what study.save_figure "
                f"returns, and run the study again --from {name[:2]}"
            )
    return True
