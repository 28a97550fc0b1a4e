"""Truncation of the teacher's latents: quality against diversity."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib.common.files import write_csv
from lib.evaluation.features import FeatureSet, extract_features
from lib.evaluation.measures import compare
from lib.evaluation.neighbours import by_class, pairwise_distance
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import sample_teacher

CURVE = "truncation.csv"


def truncation_curve(
    out: Path,
    *,
    teacher: Path,
    evaluator: Path,
    real: Path,
    psis: list[float],
    sampling: SamplingOptions,
    extractor: str,
    seed: int,
    device: str = "cpu",
    **options,
) -> None:
    """Measure the teacher's images at several truncation psi; write `truncation.csv` into `out`.

    Psi moves each intermediate latent towards their mean, w̄ + psi (w - w̄): below 1 images are
    more typical and less varied (Karras et al. 2019). Every psi takes the same latents and, as
    `sampling` says but for its psi, as many images a class. `real` is the folder of the real
    training images' features, `options` are those of `lib.evaluation.measures.compare`.
    """
    reference, rows = FeatureSet.load(real), []
    classes = len(reference.class_names)
    one_shard = replace(sampling, shard_size=sampling.per_class * classes)
    for psi in psis:
        work, drawing = out / f"psi-{psi:g}", replace(one_shard, truncation=psi)
        sample_teacher(work / "images", teacher=teacher, seed=seed, options=drawing, device=device)
        extract_features(
            work, samples=work / "images", evaluator=evaluator, extractor=extractor, device=device
        )
        found = FeatureSet.load(work)
        row = compare("teacher", found, "real train", reference, seed=seed, **options)
        distances = by_class(pairwise_distance, found.features, found.labels, classes)
        rows.append({"psi": psi} | row | {"diversity": distances.mean()})
    for psi in psis:
        shutil.rmtree(out / f"psi-{psi:g}")
    write_csv(out / CURVE, pd.DataFrame(rows))
