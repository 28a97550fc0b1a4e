"""Can two sets of images be told apart? (Lopez-Paz & Oquab 2017, arXiv 1610.06545).

A linear discriminant on a network's features learns from one half of both sets which set an image
is of, and judges the other half. Its AUC is the chance that, of one image of each, it finds the
right one: 0.5 where the sets are alike, 1 where it always knows.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from lib.common.errors import StudyError
from lib.common.files import write_csv
from lib.common.seeds import numpy_generator
from lib.evaluation.features import FeatureSet, first_per_class

TABLE = "telling.csv"


def tell_apart(
    out: Path,
    *,
    features: dict[str, Path],
    pairs: list[tuple[str, str]],
    per_class: int,
    seed: int,
    confidence: float = 0.95,
) -> None:
    """Write `telling.csv` into `out`: a row for each of the `pairs` of names of `features`.

    Its columns are `set`, `against`, `n` (judged images of the first), `auc` and its interval,
    `auc_low` and `auc_high`. Fewer than four images of a set are a `StudyError`.
    Those are folders of `extract_features`. Of each set `per_class` images of a class are taken,
    or as many as both sets of a pair have. Covariances are shrunk by Ledoit and Wolf's rule. The
    interval is that of the judged images alone (Hanley & McNeil 1982).
    """
    rows = []
    for first, second in pairs:
        sets = [FeatureSet.load(features[each]) for each in (first, second)]
        least = min(np.bincount(found.labels).min() for found in sets)
        chosen = [first_per_class(found, min(per_class, least)).features for found in sets]
        learnt, judged = zip(*(halves(found, seed) for found in chosen), strict=True)
        if min(map(len, judged)) < 2:
            raise StudyError("telling apart needs four images of a set: raise the number taken")
        discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        discriminant.fit(np.concatenate(learnt), np.repeat([0, 1], [len(part) for part in learnt]))
        scores = [discriminant.decision_function(part) for part in judged]
        auc, low, high = auc_interval(*scores, confidence)
        row = {"set": first, "against": second, "n": len(scores[0])}
        rows.append(row | {"auc": auc, "auc_low": low, "auc_high": high})
    write_csv(out / TABLE, pd.DataFrame(rows))


def halves(rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return two disjoint halves of the rows `(n, d)`, drawn at random."""
    order = numpy_generator(seed, "telling apart").permutation(len(rows))
    return [rows[np.sort(part)] for part in np.array_split(order, 2)]


def auc_interval(
    first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the AUC of scores `(n,)` and `(m,)`, the second's to be higher, and its interval."""
    n, m = len(first), len(second)
    auc = float(roc_auc_score(np.repeat([0, 1], [n, m]), np.concatenate([first, second])))
    spread = (m - 1) * (auc / (2 - auc) - auc**2) + (n - 1) * (2 * auc**2 / (1 + auc) - auc**2)
    error = np.sqrt((auc * (1 - auc) + spread) / (n * m))
    reach = stats.norm.ppf((1 + confidence) / 2) * error
    return auc, max(0.0, auc - reach), min(1.0, auc + reach)
