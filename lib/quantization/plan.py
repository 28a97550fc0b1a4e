"""Which cells the study quantizes."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib.calibration.kinds import KINDS
from lib.classifiers.names import UNFUSED
from lib.quantization.cell import SYNTHETIC, Cell
from lib.quantization.nncf import VARIANTS


def make_cells(
    *,
    models: list[str],
    methods: Sequence[str],
    calibration_sets: list[str],
    calibration_sizes: list[int],
    seeds: Sequence[int],
    engines: tuple[str, ...] = ("nncf",),
) -> list[Cell]:
    """Return the cells of a full grid, the last of `CELL_KEYS` varying fastest."""
    axes = (models, engines, methods, calibration_sets, calibration_sizes, seeds)
    return [Cell(*values) for values in itertools.product(*axes)]


def grid_cells(p: Any) -> list[Cell]:
    """Return the cells of the grid from the study's parameters.

    By NNCF's default quantization each network meets each set; what is slow, or answers a question
    of its own, has fewer sets, networks or draws.
    """
    sets, size = p.calibration_sets, [p.quantization_subset_size]
    main, doses = ([s for s in sets if KINDS[s].is_dose == wanted] for wanted in (False, True))
    aware, clipped = (
        [name for name in sets if name in few]
        for few in (p.quantization_accuracy_aware_sets, p.quantization_estimator_sets)
    )
    sizes = [images for images in p.quantization_sizes if images < size[0]]
    default, repaired, synthetic = (
        [method] if method in p.quantization_methods else []
        for method in ("default", "accuracy_aware", SYNTHETIC)
    )
    estimators = [v for v in VARIANTS if VARIANTS[v].estimator in p.quantization_estimators]
    dose_seeds = min(p.quantization_seeds, p.quantization_dose_seeds)
    own = [model.name for model in p.own_models]
    unfused = [f"{name}{UNFUSED}" for name in p.quantization_unfused]
    nncf = p.classifiers + unfused + own
    some = nncf[: p.quantization_accuracy_aware_networks or None]
    pot = p.classifiers[: p.quantization_pot_classifiers] + own
    ways = [  # engine, networks, methods, sets, sizes, draws
        ("nncf", nncf, default, main, size, p.quantization_seeds),
        ("nncf", nncf, default, doses, size, dose_seeds),
        ("nncf", nncf, default, ["real"], sizes, p.quantization_seeds),
        ("nncf", nncf, p.quantization_variants, main, size, p.quantization_variant_seeds),
        ("nncf", nncf, estimators, clipped, size, p.quantization_variant_seeds),
        ("nncf", some, repaired + synthetic, aware, size, p.quantization_accuracy_aware_seeds),
        ("pot", pot, default, main, size, p.quantization_pot_seeds),
        ("pot", pot, repaired, aware, size, p.quantization_pot_accuracy_aware_seeds),
    ]
    cells = [
        make_cells(
            models=models,
            engines=(engine,),
            methods=names,
            calibration_sets=kinds,
            calibration_sizes=images,
            seeds=range(times),
        )
        for engine, models, names, kinds, images, times in ways
        if engine in p.quantization_engines
    ]
    most = p.quantization_few_draws
    return [
        cell
        for cell in itertools.chain.from_iterable(cells)
        if cell.seed < most.get(cell.model.removesuffix(UNFUSED), cell.seed + 1)
    ]


def grid_plan(p: Any, cells: list[Cell], work: Path) -> dict[str, dict]:
    """Return `inputs`, `options` and `run_options` with which `Study.make` runs the grid.

    Finished cells are kept in `work/quantization.cells`; synthetic images to judge by, where they
    are wanted, are the artifact `validation-student`.
    """
    sets = dict.fromkeys(cell.calibration_set for cell in cells)
    inputs = {"models": "models", "calibration": {kind: f"calibration-{kind}" for kind in sets}}
    inputs |= {"validation": "real/validation", "test": "real/test"}
    if any(cell.method == SYNTHETIC for cell in cells):
        inputs["synthetic"] = "validation-student"
    options = {"cells": cells, "options": p.options("quantization")}
    options |= {"few": p.quantization_few_images}
    run = {"jobs": p.jobs, "scheduler": p.scheduler, "cache": work / "quantization.cells"}
    return {"inputs": inputs, "options": options, "run_options": run}
