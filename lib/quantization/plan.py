"""Which cells the study quantizes: the main grid, unfused networks, and where sets differ."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib.calibration.kinds import KINDS
from lib.classifiers.names import UNFUSED
from lib.quantization.cell import Cell


def make_cells(
    *,
    models: list[str],
    methods: list[str],
    calibration_sets: list[str],
    calibration_sizes: list[int],
    seeds: Sequence[int],
    engines: tuple[str, ...] = ("nncf",),
) -> list[Cell]:
    """Return the cells of a full grid, the last of `CELL_KEYS` varying fastest."""
    axes = (models, engines, methods, calibration_sets, calibration_sizes, seeds)
    return [Cell(*values) for values in itertools.product(*axes)]


def grid_cells(p: Any) -> list[Cell]:
    """Return the cells of the main grid from the study's parameters.

    Accuracy-aware quantization and POT, which are slow, have fewer sets, networks and seeds.
    """
    own = [model.name for model in p.own_models]
    models = {"nncf": p.classifiers + own}
    models["pot"] = p.classifiers[: p.quantization_pot_classifiers] + own
    repaired = [name for name in p.calibration_sets if name in p.quantization_accuracy_aware_sets]
    ways = [
        ("nncf", "default", p.calibration_sets, p.quantization_seeds),
        ("nncf", "accuracy_aware", repaired, p.quantization_accuracy_aware_seeds),
        ("pot", "default", p.calibration_sets, p.quantization_pot_seeds),
        ("pot", "accuracy_aware", repaired, p.quantization_pot_accuracy_aware_seeds),
    ]
    cells = []
    for engine, method, sets, seeds in ways:
        if engine in p.quantization_engines and method in p.quantization_methods:
            cells += make_cells(
                models=models[engine],
                engines=(engine,),
                methods=[method],
                calibration_sets=sets,
                calibration_sizes=[p.quantization_subset_size],
                seeds=range(seeds),
            )
    return cells


def unfused_cells(p: Any) -> list[Cell]:
    """Return the cells of the RepVGG networks that keep their branches."""
    return make_cells(
        models=[f"{name}{UNFUSED}" for name in p.quantization_unfused],
        methods=["default"],
        calibration_sets=["real"],
        calibration_sizes=[p.quantization_subset_size],
        seeds=range(p.quantization_seeds),
    )


def sensitivity_cells(p: Any, images: int) -> list[Cell]:
    """Return cells that show where sets of so many `images` differ, for sets that all share.

    Default quantization at several sizes, but none larger than a set, and its variants at one.
    """
    size = p.quantization_subset_size
    sizes = {size, *(each for each in p.sensitivity_sizes if each <= images)}
    common = {
        "models": p.sensitivity_classifiers,
        "calibration_sets": [kind for kind in p.calibration_sets if not KINDS[kind].per_network],
        "seeds": range(p.sensitivity_seeds),
    }
    cells = make_cells(methods=["default"], calibration_sizes=sorted(sizes), **common)
    return cells + make_cells(methods=p.sensitivity_methods, calibration_sizes=[size], **common)


def grid_plan(
    p: Any, cells: list[Cell], *, name: str, models: str, work: Path, keep_seed: int | None = 0
) -> dict[str, dict]:
    """Return `inputs`, `options` and `run_options` with which `Study.make` runs a grid.

    `models` names the artifact of FP32 networks; finished cells are kept in `work/<name>.cells`.
    """
    sets = dict.fromkeys(cell.calibration_set for cell in cells)
    inputs = {"models": models, "calibration": {kind: f"calibration-{kind}" for kind in sets}}
    inputs |= {"validation": "real/validation", "test": "real/test"}
    options = {"cells": cells, "options": p.options("quantization"), "keep_seed": keep_seed}
    run = {"jobs": p.jobs, "scheduler": p.scheduler, "cache": work / f"{name}.cells"}
    return {"inputs": inputs, "options": options, "run_options": run}
