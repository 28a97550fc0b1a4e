"""The answer: which calibration sets serve which networks, and what to do by it."""

import numpy as np
import pandas as pd
from tabulate import tabulate

from lib.calibration.kinds import KINDS
from lib.classifiers.names import network_name
from lib.common.errors import StudyError
from lib.comparison.models import MAIN, REAL, SET, WAY, int8_name, set_name
from lib.comparison.service import FAILS, MISSING, OPEN, REFERENCE, SERVES

SERVES_ALL = "serves all"
POINTS = "{difference_pp:+.2f} ({low_pp:+.2f} to {high_pp:+.2f})"
REST = {"failed": "agree less", "undecided": "could not be decided", "missing": "were not measured"}
AT_HAND = "at hand"
OWNED = {
    "a few real images": ["data"],
    "none, but a generator of such images": ["generator"],
    "no images; the network in PyTorch, with batch normalisation": ["statistics"],
    "nothing but the network's file": ["code", "photographs"],
}
"""What people may have, and the origin of the sets that they can make of it."""


def answers(services: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each way and set: how many networks it serves, and the worst one.

    `services` is `service_table`'s. `networks` are those of real images; `served`, `failed`,
    `undecided` and `missing` count them; `middle_pp` is the median difference, and `worst` the
    network of the lowest one with its `difference_pp`, `low_pp`, `high_pp`. No mean over networks
    decides: `answer` is *serves all*, *fails* where a set fails one network, or *not decided*.
    Best first: by networks failed or missing, then by those served, then by the worst difference.
    """
    rows = []
    for way, part in services.groupby(WAY, sort=False):
        networks = part.loc[part["answer"] == REFERENCE, "model"].nunique()
        for key, own in part.groupby(SET, sort=False):
            row = dict(zip((*WAY, *SET), (*way, *key), strict=True)) | {"networks": networks}
            rows.append(row | _answer(own, networks))
    table = pd.DataFrame(rows)
    way = table.groupby(WAY, sort=False).ngroup()
    worst = table.get("difference_pp", pd.Series(np.nan, table.index)).fillna(-np.inf)
    lost = table["failed"] + table["missing"]
    order = np.lexsort([-worst, -table["served"], lost, table["answer"] != REFERENCE, way])
    return table.iloc[order].reset_index(drop=True)


def _answer(own: pd.DataFrame, networks: int) -> dict:
    """Answer for the rows of one way and set."""
    counts = {name: int((own["answer"] == name).sum()) for name in (SERVES, FAILS, OPEN)}
    measured = own[~own["answer"].isin([MISSING, REFERENCE])]
    row = {"served": counts[SERVES], "failed": counts[FAILS], "undecided": counts[OPEN]}
    row["missing"] = networks - len(measured)
    row |= own[["agreement", "drop_pp"]].median().to_dict()
    if measured.empty:
        reference = (own["answer"] == REFERENCE).any()
        return row | {
            "missing": 0 if reference else networks,
            "answer": REFERENCE if reference else MISSING,
        }
    worst = measured.loc[measured["difference_pp"].idxmin()]
    row |= worst[["difference_pp", "low_pp", "high_pp", "margin_pp"]].to_dict()
    row |= {"worst": worst["model"], "middle_pp": measured["difference_pp"].median()}
    answer = FAILS if row["failed"] else SERVES_ALL if row["served"] == networks else OPEN
    return row | {"answer": answer}


def usual_size(table: pd.DataFrame) -> int:
    """Return the size of most calibration sets: that of real images as the reference."""
    return int(table.loc[table["calibration_set"] == REAL, "calibration_size"].max())


def of_way(table: pd.DataFrame, engine: str = MAIN[0], method: str = MAIN[1]) -> pd.DataFrame:
    """Return the rows of one way to quantize."""
    found = table[(table["engine"] == engine) & (table["method"] == method)]
    if found.empty:
        raise StudyError(f"no network was quantized by {int8_name(engine, method)}")
    return found


def whole_sets(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of sets that are no doses of another."""
    return table[~table["calibration_set"].map(lambda name: KINDS[name].is_dose)]


def main_answer(table: pd.DataFrame) -> pd.Series:
    """Return the row that the study asks for, of the student or else of the best set.

    `table` holds `answers` of one way to quantize.
    """
    rows = table[table["answer"] != REFERENCE]
    if rows.empty:
        raise StudyError("there is no calibration set beside real images: nothing to compare")
    return rows.iloc[(rows["calibration_set"] == "student").argmax()]


def sentence(row: pd.Series) -> str:
    """Return the answer of a row of `answers` in a sentence."""
    images = {"student": "the student's images", "teacher": "the teacher's images"}
    kind = images.get(row["calibration_set"], set_name(row["calibration_set"]))
    if row["answer"] == MISSING:
        return f"With {kind}, no INT8 network could be compared: not measured."
    text = (
        f"Calibrated with {kind}, {row['served']:.0f} of {row['networks']:.0f} INT8 networks agree "
        "with their FP32 originals as often as with other real images"
    )
    worst = f"{network_name(row['worst'])} ({_points(row)})"
    if row["answer"] == SERVES_ALL:
        return f"{text}; farthest from it is {worst}."
    parts = [f"{row[n]:.0f} {words}" for n, words in REST.items() if row[n]]
    return f"{text}; {', '.join(parts)}. Worst is {worst}."


def _points(row: pd.Series) -> str:
    difference, low, high = row["difference_pp"], row["low_pp"], row["high_pp"]
    return f"{difference:+.2f} points, interval {low:+.2f} to {high:+.2f}"


def reader_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `answers` as a reader sees them, all texts."""
    usual = usual_size(table)
    names = zip(table["calibration_set"], table["calibration_size"], strict=True)
    compared = table["worst"].notna()
    shown = table.fillna({"difference_pp": 0, "low_pp": 0, "high_pp": 0, "worst": ""})
    worst = shown.apply(
        lambda row: f"{network_name(row['worst'])} {POINTS.format_map(row)}", axis=1
    )
    measured = table.assign(measured=table["networks"] - table["missing"])
    served = measured.apply("{served:.0f} of {measured:.0f}".format_map, axis=1)
    texts = {
        "calibration set": [set_name(*name, usual) for name in names],
        "serves": served.where(compared),
        "fails": table["failed"].map("{:.0f}".format).where(compared),
        "middle network (points)": table["middle_pp"].map("{:+.2f}".format, na_action="ignore"),
        "worst network (points, interval)": worst.where(compared),
        "loss of top-1, middle": table["drop_pp"].map("{:.2f}".format, na_action="ignore"),
    }
    return pd.DataFrame(texts, dtype=object).fillna("")


def best_without_data(table: pd.DataFrame) -> str:
    """Return the best set that can be had without data, of `answers` of one way to quantize."""
    found = table[_offered(table) & (table["calibration_set"] != REAL)]
    without = found["calibration_set"].map(lambda name: KINDS[name].origin != "data")
    if found[without].empty:
        raise StudyError("no set that can be had without data was compared: add one")
    return found[without]["calibration_set"].iloc[0]


def _offered(table: pd.DataFrame) -> pd.Series:
    """Tell which rows of `answers` are sets that someone could calibrate with, and compared."""
    kinds = table["calibration_set"].map(KINDS.get)
    offered = kinds.map(lambda kind: not (kind.control or kind.is_dose or kind.drawn))
    return table["worst"].notna() & offered


def rule_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return what to calibrate with, by what is at hand: the two best sets of each kind.

    Of few real images the fewest are named that serve most networks and fail none, if any do.
    `table` holds `answers` of one way to quantize.
    """
    usual, shown = usual_size(table), reader_table(table)
    compared = _offered(table)
    origin = table["calibration_set"].map(lambda name: KINDS[name].origin)
    columns = list(shown.columns[:5])
    parts = [
        shown.loc[table["answer"] == REFERENCE, columns].assign(**{AT_HAND: f"{usual} real images"})
    ]
    for words, origins in OWNED.items():
        found = compared & origin.isin(origins)
        most = (table["failed"] == 0) & (table["served"] > table["networks"] / 2)
        if "data" in origins and (found & most).any():
            found = table.index.isin(table.loc[found & most, "calibration_size"].nsmallest(2).index)
        parts.append(shown.loc[found, columns].head(2).assign(**{AT_HAND: words}))
    return pd.concat(parts)[[AT_HAND, *columns]].rename(
        columns={"calibration set": "calibrate with"}
    )


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts as Markdown."""
    return tabulate(table, "keys", "pipe", showindex=False, disable_numparse=True)


def limits(services: pd.DataFrame) -> str:
    """Say in Markdown how far the answer reaches, and what failed."""
    main = of_way(services)
    margin = main["stated_pp"].iloc[0]
    wider = main[main["margin_pp"] > margin].drop_duplicates("model")
    judged = main.groupby("model", sort=False)["images"].max()
    fewer = [
        f"{network_name(m)} {n:,}"
        for m, n in judged[(judged > 0) & (judged < judged.max())].items()
    ]
    text = (
        f"**Limits.** {main['model'].nunique()} networks, {judged.max():,} test images"
        f"{' (' + ', '.join(fewer) + ')' if fewer else ''}, "
        f"{main['draws'].max()} draws of each set at most. The margin is {margin:g} points of "
        "agreement"
    )
    if len(wider):
        named = (f"{network_name(r.model)} {r.margin_pp:.1f}" for r in wider.itertuples())
        text += (
            f", more where another draw of real images moves a network further ({', '.join(named)})"
        )
    text += (
        ". Intervals speak of other test images and other draws, for these networks and data; what "
        "is *not decided* may become so with more of either."
    )
    for reason, part in services[services["answer"] == MISSING].groupby("reason", sort=False):
        sets = ", ".join(dict.fromkeys(part["calibration_set"].map(set_name)))
        ways = ", ".join(dict.fromkeys(int8_name(*w) for w in part[WAY].itertuples(index=False)))
        text += (
            f"\n\nNot measured: {len(part)} ({ways}; {sets}): {reason.removeprefix('Skipped: ')}."
        )
    return text


def verdict(services: pd.DataFrame) -> str:
    """Return Markdown: the rule, for each way to quantize a sentence and a table, the limits."""
    table = answers(services)
    parts = ["## What to calibrate with", markdown(rule_table(of_way(table)))]
    for (engine, method), part in table.groupby(WAY, sort=False):
        parts.append(f"## {int8_name(engine, method)}")
        if (part["answer"] != REFERENCE).any():
            parts.append(sentence(main_answer(part)))
        parts.append(markdown(reader_table(part)))
    return "\n\n".join([*parts, limits(services)])
