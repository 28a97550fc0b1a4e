"""How near each calibration set is to the real images, to set against the loss it causes."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata

from lib.common.files import write_text
from lib.common.seeds import numpy_generator
from lib.common.statistics import holm
from lib.comparison.models import SETTING, means_over_models
from lib.comparison.rankings import correlations
from lib.comparison.tables import int8_name
from lib.comparison.words import counted
from lib.data.samples import RECORD, SampleSet
from lib.evaluation.extractors import classifier_extractor, extract
from lib.evaluation.frechet import frechet_distance

QUALITY = "quality.csv"
EFFECTS = {"drop_pp": "loss of accuracy", "disagreement_pp": "disagreement with FP32"}
FEWEST = 5  # sets for which a test is made
ORDERS = 400_000  # at most; 9 sets have 362,880


def measure_quality(
    out: Path, *, sets: dict[str, Path], real: Path, evaluator: Path, seed: int
) -> None:
    """Write `quality.csv`: FID and label agreement of each calibration set.

    `sets` names the folders of SampleSets, or of one SampleSet for each network, which are taken
    together; `real` is that of the real training images, `evaluator` the classifier whose features
    FID is taken on, and which judges whether an image shows the class it is labelled with. FID
    falls with the number of images, so that of each set is over `n` of them drawn by `seed`, as
    many as the smallest set has; label agreement is over all its `images`.
    """
    extractor = classifier_extractor(evaluator)
    reference, _ = extract(extractor, SampleSet.load(real).images, desc="real train")
    loaded = {name: _all_images(folder) for name, folder in sets.items()}
    n = min(len(labels) for _, labels in loaded.values())
    rows = []
    for name, (images, labels) in loaded.items():
        features, logits = extract(extractor, images, desc=name)
        chosen = numpy_generator(seed, "set quality", name).permutation(len(images))[:n]
        features = features[np.sort(chosen)]
        row = {"calibration_set": name, "images": len(images), "n": n, "n_real": len(reference)}
        row |= {"extractor": extractor.name, "resizing": extractor.resizing}
        row["fid"] = frechet_distance(features, reference)
        rows.append(row | {"label_agreement": float((logits.argmax(axis=1) == labels).mean())})
    write_text(out / QUALITY, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def quality_and_effect(quality: pd.DataFrame, degradation: pd.DataFrame) -> pd.DataFrame:
    """Join FID and label agreement of each set with what it does, by setting.

    `degradation` comes from `lib.comparison.tables.degradation_table`; `drop_pp` and
    `disagreement_pp` are means over the `compared_models` of a setting, `models` many. A set that
    was not measured over all of them is left out.
    """
    means = means_over_models(degradation, ["drop_pp", "agreement"])
    means = means[means["complete"]].drop(columns="complete")
    means["disagreement_pp"] = 100 * (1 - means.pop("agreement"))
    return means.merge(quality, on="calibration_set", how="inner")


def quality_correlations(joined: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return rank correlations over the sets between quality and effect, by setting, with a test.

    A positive one says that sets farther from the real images (by FID), or with fewer right labels,
    do more harm. NaN where fewer than two sets were measured or all are alike. `p` is that of the
    two-sided permutation test of Spearman's rho, exact up to 9 sets; `holm_p` corrects it among
    all rows. With fewer than `FEWEST` sets there is no test: even a perfect order is likely enough
    by chance.
    """
    rows = []
    for key, part in joined.groupby(SETTING, sort=False):
        signed = {"fid": part["fid"], "wrong labels": 1 - part["label_agreement"]}
        for (measure, values), effect in itertools.product(signed.items(), EFFECTS):
            row = dict(zip(SETTING, key, strict=True)) | {"quality": measure, "effect": effect}
            row |= {"models": part["models"].iloc[0]} | correlations(values, part[effect])
            rows.append(row | {"p": permutation_p(values, part[effect], seed=seed)})
    columns = [*SETTING, "quality", "effect", "models", "sets", "kendall", "spearman", "p"]
    table = pd.DataFrame(rows, columns=columns).assign(holm_p=float("nan"))
    tested = table["p"].notna()
    table.loc[tested, "holm_p"] = holm(table.loc[tested, "p"].to_numpy())
    return table


def permutation_p(first: pd.Series, second: pd.Series, *, seed: int = 0) -> float:
    """Return the two-sided p-value of Spearman's rho by the permutation test; NaN without a test.

    All orders of the sets count, or, where there are too many (10 sets and more), `ORDERS` drawn by
    `seed`.
    """
    first, second = (rankdata(values.to_numpy(float)) for values in (first, second))
    if len(first) < FEWEST or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    centred = second - second.mean()

    def shared(ranks: np.ndarray, axis: int) -> np.ndarray:
        return np.moveaxis(ranks, axis, -1) @ centred  # rho, but for a constant

    test = permutation_test(
        (first,),
        shared,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=ORDERS,
        batch=10_000,
        rng=numpy_generator(seed, "set quality"),
    )
    return float(test.pvalue)


def quality_words(found: pd.DataFrame, *, confidence: float = 0.95) -> str:
    """Return a line of Markdown a setting on whether FID orders the sets as their effects do."""
    lines = []
    rows = found[found["quality"] == "fid"]
    for key, part in rows.groupby(SETTING, sort=False):
        texts = [_evidence(row, 1 - confidence) for row in part.to_dict("records")]
        over = f"over {counted(part['sets'].iloc[0], 'set')}"
        lines.append(f"- {int8_name(*key[:2])}, {over}: {'; '.join(texts)}.")
    return "\n".join(lines) or "No set was measured, so there is no evidence."


def _evidence(row: dict, alpha: float) -> str:
    """Say what the test allows of one effect."""
    effect, rho = EFFECTS[row["effect"]], row["spearman"]
    if np.isnan(rho):
        return f"{effect} and FID: all sets are alike in one of the two"
    found = f"Spearman's rho {rho:+.2f}"
    if np.isnan(row["p"]):
        return f"{effect} and FID: {found}, over too few sets to test"
    if row["holm_p"] >= alpha:
        return f"{effect} and FID: {found}, which may be chance (corrected p = {row['holm_p']:.2g})"
    direction = "rises" if rho > 0 else "falls"
    return f"{effect} {direction} with FID ({found}, corrected p = {row['holm_p']:.2g})"


def _all_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    parts = [SampleSet.load(part) for part in _folders(folder)]
    images, labels = zip(*((part.images, part.labels) for part in parts), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _folders(folder: Path) -> list[Path]:
    if (folder / RECORD).is_file():
        return [folder]
    return sorted(record.parent for record in folder.glob(f"*/{RECORD}"))
