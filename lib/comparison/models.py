"""Which models calibration sets are compared over: a cell can fail with one set and not another.

Against real images, each set is compared over all models that both have. Among themselves, sets
are ranked over the models that all have: a mean over the models that each happens to have would
compare models, not sets.
"""

from collections.abc import Callable, Iterable

import pandas as pd

REAL = "real"
SETTING = ["engine", "method", "calibration_size"]


def compared_models(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the models that each set shares with real images, by setting.

    `measured` has a row, or several, for each model, setting (engine, method and calibration
    size) and set that succeeded; those columns come back, a row a model, with `complete`: whether
    the set has all of real's models. Where real was not measured, a set's models are its own.
    """
    return _chosen(measured, lambda wanted, models: wanted)


def common_models(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the models over which sets can be ranked: those that every set has, real included.

    As `compared_models`, but `complete` says whether a set has these. A set that would leave half
    of real's models or fewer to the others is not complete and does not count; sets with more
    models have precedence.
    """
    return _chosen(measured, lambda wanted, models: shared_models(wanted, models))


def _chosen(measured: pd.DataFrame, choose: Callable) -> pd.DataFrame:
    rows = []
    for key, part in measured.groupby(SETTING, sort=False):
        models = part.groupby("calibration_set", sort=False)["model"].unique().map(list)
        wanted = models.get(REAL, list(part["model"].unique()))
        chosen = choose(wanted, models)
        for name, own in models.items():
            complete = set(chosen) <= set(own)
            row = dict(zip(SETTING, key, strict=True)) | {"calibration_set": name}
            over = chosen if complete else [model for model in wanted if model in own]
            rows += [row | {"model": model, "complete": complete} for model in over]
    keys = [*SETTING, "calibration_set", "model"]
    dtypes = measured[keys].dtypes.to_dict() | {"complete": bool}
    return pd.DataFrame(rows, columns=[*keys, "complete"]).astype(dtypes)


def means_over_models(
    degradation: pd.DataFrame, columns: list[str], choose: Callable = compared_models
) -> pd.DataFrame:
    """Return means of columns of `degradation_table` over models, by setting and set.

    `choose` is `compared_models` or `common_models`; `models` says over how many, `complete` is
    theirs. A set that was not measured, or over none of real's models, has NaN and 0 `models`.
    """
    keys = [*SETTING, "calibration_set"]
    chosen = degradation.merge(choose(measured_rows(degradation)), on=[*keys, "model"])
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
