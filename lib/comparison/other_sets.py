"""What the answer in one paragraph says of other sets than the one it is about."""

import pandas as pd

from lib.comparison.claims import GOOD, setting_of, told
from lib.comparison.models import REAL, SETTING, compared_models, means_over_models, measured_rows
from lib.comparison.tables import int8_name
from lib.comparison.words import capitalized, counted, listed

UNTOLD = {"incomplete", "not measured"}
WORDS = {
    frozenset({"not measured"}): "not measured",
    frozenset(UNTOLD): "measured with too few of the models",
    frozenset({"better", *UNTOLD}): "better than real ones",
    frozenset({"equivalent", *UNTOLD}): "equivalent to real ones",
    frozenset({*GOOD, *UNTOLD}): "as good as real ones",
    frozenset({"worse", *UNTOLD}): "worse",
    frozenset({"inconclusive", *UNTOLD}): "undecided",
}
"""What is said of other sets, by the claims that they may have in the settings."""


def of_others(rows: list[dict], degradation: pd.DataFrame, chosen: str, kind: str) -> str:
    """Tell how each other set compares with real images in the settings, briefly.

    `rows` are those of `claimed`, `kind` is what holds for the set `chosen` in all settings.
    """
    claims: dict[str, set[str]] = {}
    for row in rows:
        if row["calibration_set"] != chosen:
            claims.setdefault(row["calibration_set"], set()).add(told(row))
    good = kind in ("equivalent", "none serves")
    if claims and good and all(values == {"equivalent"} for values in claims.values()):
        return f"The same holds for {listed(list(claims))}: accuracy does not tell the sets apart."
    texts, said = [], set()
    for kinds, words in WORDS.items():
        names = [name for name, values in claims.items() if values <= kinds and name not in said]
        said |= set(names)
        if names:
            texts.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {words}")
    texts += _apart([name for name in claims if name not in said], rows, degradation)
    return capitalized("; ".join(texts) + ".") if texts else ""


def _apart(names: list[str], rows: list[dict], degradation: pd.DataFrame) -> list[str]:
    """Tell of sets whose ways to quantize differ, and of the models where those differ, too."""
    unlike = {name: _over_shared(name, rows, degradation) for name in names}
    same = [name for name, text in unlike.items() if not text]
    alike = [f"for {listed(same)} the answer depends on how one quantizes"] if same else []
    return alike + [text for text in unlike.values() if text]


def _over_shared(name: str, rows: list[dict], degradation: pd.DataFrame) -> str:
    """Compare the ways to quantize over the models that all have; "" if all have the same ones."""
    ways = [row for row in rows if row["calibration_set"] == name and told(row) not in UNTOLD]
    over = compared_models(measured_rows(degradation))
    over = over.groupby([*SETTING, "calibration_set"])["model"]
    models = [set(over.get_group((*setting_of(row), name))) for row in ways]
    shared = set.intersection(*models)
    if all(own == shared for own in models):
        return ""
    text = f"for {name} the answer differs between ways to quantize that had different models"
    if not shared:
        return text
    figures = [
        f"{int8_name(row['engine'], row['method'])} {_difference(row, shared, degradation):+.2f}"
        for row in ways
    ]
    return f"{text} (over the {counted(len(shared), 'model')} that all had: {', '.join(figures)})"


def _difference(row: dict, models: set[str], degradation: pd.DataFrame) -> float:
    """Return the mean difference in accuracy to real images over `models`, in points."""
    part = degradation[degradation["model"].isin(models)].set_index(SETTING).sort_index()
    part = part.loc[setting_of(row)].groupby("calibration_set")["drop_pp"].mean()
    return part[REAL] - part[row["calibration_set"]]


def of_fractals(measured: list[dict], degradation: pd.DataFrame, chosen: str) -> str:
    """Say where fractals, which need neither images nor a generator, change fewer predictions.

    That is, on average and on more than half of the models.
    """
    means = means_over_models(degradation, ["agreement"]).set_index([*SETTING, "calibration_set"])
    table = means[["agreement", "models"]].to_dict("index")
    ahead, ways = [], 0
    for row in measured:
        mine, theirs = (table.get((*setting_of(row), name)) for name in (chosen, "fractal"))
        if chosen == "fractal" or theirs is None or theirs["models"] != mine["models"]:
            continue
        ways += 1
        most = _share_ahead("fractal", chosen, setting_of(row), degradation) > 0.5
        if most and theirs["agreement"] > mine["agreement"]:
            figures = (f"{100 * each['agreement']:.2f} %" for each in (theirs, mine))
            ahead.append(" against ".join(figures))
    if not ahead:
        return ""
    return (
        "Fractals, which need neither images nor a generator, leave more predictions as they are "
        f"on most models in {len(ahead)} of {counted(ways, 'way')} to quantize: agreement with "
        f"FP32 {listed(ahead)}."
    )


def _share_ahead(one: str, other: str, setting: tuple, degradation: pd.DataFrame) -> float:
    """Return the share of models that agree with FP32 more with the set `one` than with `other`."""
    part = degradation.set_index(SETTING).sort_index().loc[setting]
    table = part.pivot(index="model", columns="calibration_set", values="agreement")
    table = table[[one, other]].dropna()
    return float((table[one] > table[other]).mean())
