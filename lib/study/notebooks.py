"""What the notebooks of the study are and which parameters each declares."""

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

from lib.common.paths import NOTEBOOKS


def notebook_paths() -> list[Path]:
    """Return the numbered notebooks of the study, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def appendix_paths() -> list[Path]:
    """Return the appendices, which run on request only, in order."""
    return sorted(NOTEBOOKS.glob("A[0-9]_*.ipynb"))


@cache
def declared_parameters(path: Path) -> dict[str, Any]:
    """Return names and default values in a notebook's cell tagged `parameters`."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return assigned_literals("".join(cell["source"])) or {}
    return {}


def assigned_literals(source: str) -> dict[str, Any] | None:
    """Return `{name: value}` of a cell that only assigns literals to names, else None."""
    try:
        body = ast.parse(source).body
        return {node.targets[0].id: ast.literal_eval(node.value) for node in body}
    except (AttributeError, SyntaxError, ValueError):
        return None


def read_tagged(notebook: dict, tag: str) -> list[dict]:
    """Return the cells of a notebook that have the tag."""
    return [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]
