"""Which models calibration sets are compared over, so that each mean is over the same ones.

A cell can fail with one set and succeed with another; a mean over the models that each set happens
to have would compare models, not sets.
"""

from collections.abc import Iterable

import pandas as pd

REAL = "real"
SETTING = ["engine", "method", "calibration_size"]


def common_models(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the models that each calibration set is compared over, by setting.

    `measured` has a row, or several, for each model, setting and set that succeeded. Within a
    setting (engine, method and calibration size) these are the models that every set has, `real`
    included, and those columns with `model` and `complete` come back. A set that would leave half
    of real's models or fewer to the others is not `complete` and does not count: it is compared
    with real alone, over the models that both have. Sets with more models have precedence. Where
    real was not measured, all models of the setting stand for its own.
    """
    rows = []
    for key, part in measured.groupby(SETTING, sort=False):
        models = part.groupby("calibration_set", sort=False)["model"].unique().map(list)
        wanted = models.get(REAL, list(part["model"].unique()))
        common = shared_models(wanted, models)
        for name, own in models.items():
            complete = set(common) <= set(own)
            row = dict(zip(SETTING, key, strict=True)) | {"calibration_set": name}
            over = common if complete else [model for model in wanted if model in own]
            rows += [row | {"model": model, "complete": complete} for model in over]
    keys = [*SETTING, "calibration_set", "model"]
    dtypes = measured[keys].dtypes.to_dict() | {"complete": bool}
    return pd.DataFrame(rows, columns=[*keys, "complete"]).astype(dtypes)


def means_over_models(degradation: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return means of columns of `degradation_table` over `common_models`, by setting and set.

    `models` says over how many, `complete` whether over the same as the other sets. A set that
    was not measured, or over none of real's models, has NaN and 0 `models`.
    """
    keys = [*SETTING, "calibration_set"]
    chosen = degradation.merge(common_models(measured_rows(degradation)), on=[*keys, "model"])
    groups = chosen.groupby(keys, sort=False)
    means = groups[columns].mean().assign(models=groups.size(), complete=groups["complete"].all())
    table = degradation[keys].drop_duplicates().join(means, on=keys).reset_index(drop=True)
    table["models"] = table["models"].fillna(0).astype(int)
    table["complete"] = table["complete"].eq(True)
    return table


def measured_rows(degradation: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `degradation_table` in which at least one cell succeeded."""
    return degradation[degradation["drop_pp"].notna()]


def shared_models(wanted: list[str], groups: Iterable[list[str]]) -> list[str]:
    """Return the wanted models that all groups have, but for groups that lack too many.

    A group that would leave half of the wanted models or fewer is passed over; larger groups have
    precedence.
    """
    shared = wanted
    for group in sorted(groups, key=lambda group: -len(set(group) & set(wanted))):
        left = [model for model in shared if model in group]
        shared = left if 2 * len(left) > len(wanted) else shared
    return shared
