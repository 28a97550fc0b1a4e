"""Run the cells of a quantization grid side by side: in local processes, or on a dask cluster."""

import contextlib
import os
import warnings
from collections.abc import Iterator

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lib.common.errors import StudyError, Unavailable
from lib.common.progress import progress
from lib.quantization.cell import CELL_KEYS, Cell, Grid, finished, pin_worker, run_cells
from lib.quantization.pot.environment import pot_python


def missing_engines(cells: list[Cell], grid: Grid, scheduler: str) -> dict[str, str]:
    """Make POT's environment where it is needed, once; return why that cannot be, by engine.

    The workers of a cluster may run on other machines: each sees to its own.
    """
    wanted = any(cell["engine"] == "pot" and not finished(cell, grid) for cell in cells)
    if not wanted or scheduler:
        return {}
    try:
        pot_python(again=True)
    except Unavailable as reason:
        return {"pot": str(reason)}
    return {}


def run_all(cells: list[Cell], grid: Grid, jobs: int, scheduler: str) -> list[dict]:
    """Run the cells; return one row each, in the order of `cells`.

    `jobs` local processes take them, or the workers of the dask `scheduler` at that address,
    where it is not "".

    Raises:
        StudyError: the scheduler cannot be reached, or a process was killed.
    """
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        same_but_method = tuple(cell[key] for key in CELL_KEYS if key != "method")
        groups.setdefault(same_but_method, []).append(cell)
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    work = [joblib.delayed(_work)(group, grid, cpus, jobs) for group in groups.values()]
    rows: dict[tuple, dict] = {}
    try:
        with _backend(jobs, scheduler):
            results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(work)
            for group in progress(results, "quantization", total=len(work), unit="group"):
                rows |= {_key(row): row for row in group}
    except TerminatedWorkerError as error:
        raise StudyError(
            "a quantization process was killed, perhaps for want of memory: lower jobs and run "
            "again, finished cells are kept"
        ) from error
    return [rows[_key(cell)] for cell in cells]


def _work(cells: list[Cell], grid: Grid, cpus: list[int], jobs: int) -> list[dict]:
    pin_worker(cpus, jobs)
    return run_cells(cells, grid)


@contextlib.contextmanager
def _backend(jobs: int, scheduler: str) -> Iterator[None]:
    """Have joblib use local processes, or a dask cluster where its scheduler's address is given."""
    if not scheduler:
        local = joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1)
        with local, warnings.catch_warnings():
            # loky replaces a worker whose memory has grown
            warnings.filterwarnings("ignore", "A worker stopped while some jobs")
            yield
        return
    from dask.distributed import Client  # slow, and seldom used

    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"scheduler {scheduler} cannot be reached: {reason}") from error
    with client, joblib.parallel_config("dask"):
        yield


def _key(cell: dict) -> tuple:
    return tuple(cell[key] for key in CELL_KEYS)
