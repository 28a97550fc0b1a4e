"""Finished cells that a grid leaves behind, so that another one need not run them again.

A grid whose student was trained anew, or that takes in one more set, quantizes only what is new.
"""

import shutil
from importlib.metadata import version
from pathlib import Path

from lib.common.files import atomic_path, sha256_json
from lib.common.fingerprint import code_fingerprint
from lib.common.machine import cpu_flags
from lib.quantization.cell import Cell, Grid, finished, run_cells


def take_cells(cells: list[Cell], grid: Grid, cache: Path) -> None:
    """Copy from `cache` into the grid's folders what it holds of these very cells."""
    for cell in cells:
        files = _files(cell, grid, cache)
        if not finished(cell, grid) and all(kept.is_file() for kept in files.values()):
            for path, kept in files.items():
                _copy(kept, path)


def keep_cells(cells: list[Cell], grid: Grid, cache: Path) -> None:
    """Copy these finished cells into `cache`, and drop all others from it."""
    wanted = {kept: path for cell in cells for path, kept in _files(cell, grid, cache).items()}
    for kept, path in wanted.items():
        if not kept.is_file():
            _copy(path, kept)
    for stray in set(cache.glob("*")) - set(wanted):
        stray.unlink()


def _files(cell: Cell, grid: Grid, cache: Path) -> dict[Path, Path]:
    """Return where each file of a finished cell is cached, the one that makes it finished last.

    The names there say all that a cell depends on: beside what `Grid.cell_file` hashes, the code,
    the tools' versions and the processor.
    """
    versions = {name: version(name) for name in ("openvino", "nncf")}
    what = [grid.cell_file(cell).stem, code_fingerprint(run_cells), versions, cpu_flags()]
    stem = f"{cell['model']}-{sha256_json(what)[:24]}"
    files = []
    if cell["method"] != "fp32":
        files += [(grid.seconds_file(cell), ".seconds")]
        if (ir := grid.kept_ir(cell)) is not None:
            files += [(ir.with_suffix(end), end) for end in (".bin", ".json", ".xml")]
    files += [(grid.cell_file(cell), ".safetensors")]
    return {path: cache / (stem + end) for path, end in files}


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
