"""Which networks a calibration set is compared over, as a cell can fail with one set alone.

Each set is compared with real images over all networks that both have: a mean over those that
each happens to have would compare networks, not sets.
"""

from collections.abc import Iterable

import pandas as pd

REAL = "real"
SETTING = ["engine", "method", "calibration_size"]
KEYS = [*SETTING, "calibration_set"]


def compared_models(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the networks that each set shares with real images, by setting.

    `measured` has rows for each `model`, setting (engine, method and calibration size) and set that
    succeeded; those columns come back, a row a network, with `complete`: whether the set has all
    of real's. Where real was not measured, a set's networks are its own.
    """
    own = measured[[*KEYS, "model"]].drop_duplicates()
    real = own.loc[own["calibration_set"] == REAL, [*SETTING, "model"]]
    everything = own[[*SETTING, "model"]].drop_duplicates()
    alone = everything.merge(real[SETTING].drop_duplicates(), how="left", indicator=True)
    wanted = pd.concat([real, alone.loc[alone["_merge"] == "left_only", real.columns]])
    shared = own.merge(wanted)
    sizes = wanted.groupby(SETTING)["model"].size().rename("wanted")
    found = shared.groupby(KEYS)["model"].transform("size")
    return shared.assign(complete=found == shared.join(sizes, on=SETTING)["wanted"])


def means_over_models(degradation: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return means of columns of `degradation_table` over `compared_models`, by setting and set.

    `models` says over how many, `complete` is theirs. A set that was not measured, or over none
    of real's networks, has NaN and 0 `models`.
    """
    over = compared_models(degradation[degradation["drop_pp"].notna()])
    groups = degradation.merge(over, on=[*KEYS, "model"]).groupby(KEYS, sort=False)
    means = groups[columns].mean()
    means = means.assign(models=groups["model"].nunique(), complete=groups["complete"].all())
    table = degradation[KEYS].drop_duplicates().join(means, on=KEYS).reset_index(drop=True)
    table["models"] = table["models"].fillna(0).astype(int)
    return table.assign(complete=table["complete"].eq(True))


def shared_models(wanted: list[str], groups: Iterable[list[str]]) -> list[str]:
    """Return the wanted networks that all groups have, larger groups first.

    A group that would leave half of them or fewer is passed over.
    """
    shared = wanted
    for group in sorted(groups, key=lambda group: -len(set(group) & set(wanted))):
        left = [model for model in shared if model in group]
        shared = left if 2 * len(left) > len(wanted) else shared
    return shared


def int8_name(engine: str, method: str) -> str:
    """Name a way to quantize for readers, such as `NNCF, accuracy-aware quantization`."""
    return f"{engine.upper()}, {method.replace('_', '-')} quantization"


def int8_names(table: pd.DataFrame) -> list[str]:
    """Return `int8_name` of each row of a table with `engine` and `method`."""
    return [int8_name(*way) for way in zip(table["engine"], table["method"], strict=True)]
