"""What of an executed notebook goes into the post: its prose, code and results, no run noise."""

import re
from copy import deepcopy

from nbformat import NotebookNode

from lib.common.errors import StudyError

HIDDEN_TAGS = {"parameters", "injected-parameters"}
CHECK = "# NBVAL_CHECK_OUTPUT"
IDLE_HEADING = re.compile(r"(\A|\n)#+ [^\n]*\s*\Z")
PICTURES = ("image/png", "image/gif")
NOISE = re.compile(
    r"[\w.+-]+: (unchanged, reused|making|trying again what failed)"  # lib.study.study
    r"|POT's environment: making .*"  # lib.quantization.pot.engine
    r"|.*: [\d,]+(/[\d,]+)? \S+( in \d+ s)?, [\d.e+]+/s.*"  # lib.common.progress
    r"|.*\d+%\|.*"  # tqdm
)


def published_cells(notebook: NotebookNode, name: str) -> list[NotebookNode]:
    """Return the cells of an executed notebook as they are published.

    Left out are parameters, the check at the end, what is said of the run itself, and headings
    below which nothing is left. Code without a result joins the code that follows it.
    """
    cells = []
    for cell in deepcopy(notebook.cells):
        if cell.cell_type == "code":
            if _hidden(cell):
                continue
            cell.outputs = [output for output in map(_without_noise, cell.outputs) if output]
            _check_pictures(cell, name)
            if cells and cells[-1].cell_type == "code" and not cells[-1].outputs:
                cell.source = f"{cells.pop().source}\n\n{cell.source}"
        cells.append(cell)
    first = next(cell for cell in cells if cell.cell_type == "markdown")
    first.source = _without_run_time(first.source)
    first.metadata["notebook"] = name
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if cell.cell_type == "markdown" and _opens_nothing(following):
            cell.source = IDLE_HEADING.sub("", cell.source)
    return [cell for cell in cells if cell.source.strip()]


def _hidden(cell: NotebookNode) -> bool:
    tags = set(cell.metadata.get("tags", []))
    return bool(tags & HIDDEN_TAGS) or cell.source.startswith(CHECK) or not cell.source.strip()


def _without_noise(output: NotebookNode) -> NotebookNode | None:
    if output.output_type != "stream":
        output.output_type = "display_data"  # results of expressions are shown alike
        output.pop("execution_count", None)
        return output
    lines = [line.rpartition("\r")[2] for line in output.text.split("\n")]
    output.text = "\n".join(line for line in lines if not NOISE.fullmatch(line)).strip("\n")
    return output if output.name == "stdout" and output.text.strip() else None


def _check_pictures(cell: NotebookNode, name: str) -> None:
    for output in cell.outputs:
        for kind in set(PICTURES) & set(output.get("data", {})):
            about = output.metadata.get(kind, {})
            if not (about.get("alt", "").strip() and about.get("caption", "").strip()):
                raise StudyError(
                    f"a picture in {name} has no description: display what study.save_figure "
                    f"returns, and run the study again --from {name[:2]}"
                )


def _without_run_time(source: str) -> str:
    paragraphs = source.split("\n\n")
    return "\n\n".join(text for text in paragraphs if not text.startswith("**Run time**"))


def _opens_nothing(following: NotebookNode | None) -> bool:
    """Tell whether a heading just before `following` would have nothing below it."""
    return following is None or (
        following.cell_type == "markdown" and following.source.startswith("#")
    )
