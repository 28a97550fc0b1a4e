"""Truncation of the teacher's latents: quality against diversity."""

import shutil
from pathlib import Path

import pandas as pd

from lib.common.files import write_text
from lib.evaluation.diversity import by_class, pairwise_distance
from lib.evaluation.features import FeatureSet, extract_features
from lib.evaluation.tables import compare
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
    per_class: int,
    extractor: str,
    seed: int,
    noise_mode: str,
    latent_distribution: str,
    batch_size: int,
    backend: str = "openvino",
    precision: str = "float32",
    device: str = "cpu",
    **options,
) -> None:
    """Measure the teacher's images at several truncation psi; write `truncation.csv` into `out`.

    Psi moves each intermediate latent towards their mean, w̄ + psi (w - w̄): below 1 images are
    more typical and less varied (Karras et al. 2019). Every psi takes the same latents and
    `per_class` images a class. `real` is the folder of the real training images' features,
    `options` are those of `lib.evaluation.tables.compare`.
    """
    reference, rows = FeatureSet.load(real), []
    for psi in psis:
        work = out / f"psi-{psi:g}"
        sample_teacher(
            work / "images",
            teacher=teacher,
            seed=seed,
            options=SamplingOptions(
                per_class=per_class,
                truncation=psi,
                noise_mode=noise_mode,
                latent_distribution=latent_distribution,
                batch_size=batch_size,
                backend=backend,
                precision=precision,
                shard_size=per_class * len(reference.class_names),
            ),
            device=device,
        )
        extract_features(
            work, samples=work / "images", evaluator=evaluator, extractor=extractor, device=device
        )
        found = FeatureSet.load(work)
        row = compare("teacher", found, "real train", reference, seed=seed, **options)
        rows.append({"psi": psi} | row | {"diversity": _diversity(found)})
    for psi in psis:
        shutil.rmtree(out / f"psi-{psi:g}")
    write_text(out / CURVE, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def _diversity(found: FeatureSet) -> float:
    classes = len(found.class_names)
    return float(by_class(pairwise_distance, found.features, found.labels, classes).mean())
