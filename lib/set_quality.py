"""How near each calibration set is to the real images, to set against the loss it causes."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.comparison import int8_name
from lib.extractors import classifier_extractor, extract
from lib.files import write_text
from lib.frechet import frechet_distance
from lib.rankings import correlations
from lib.sampleset import RECORD, SampleSet

QUALITY = "quality.csv"
EFFECTS = {"drop_pp": "loss of accuracy", "disagreement_pp": "disagreement with FP32"}
STRONG = 0.7  # rank correlation from which one order is said to follow another


def measure_quality(out: Path, *, sets: dict[str, Path], real: Path, evaluator: Path) -> None:
    """Write `quality.csv`: FID and label agreement of each calibration set, on all its images.

    `sets` names the folders of SampleSets, or of one SampleSet for each network, which are taken
    together; `real` is that of the real training images, `evaluator` the classifier whose features
    FID is taken on, and which judges whether an image shows the class it is labelled with.
    """
    extractor = classifier_extractor(evaluator)
    reference, _ = extract(extractor, SampleSet.load(real).images, desc="real train")
    rows = []
    for name, folder in sets.items():
        parts = [SampleSet.load(part) for part in _folders(folder)]
        images = np.concatenate([part.images for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        features, logits = extract(extractor, images, desc=name)
        row = {"calibration_set": name, "n": len(images), "n_real": len(reference)}
        row |= {"extractor": extractor.name, "resizing": extractor.resizing}
        row["fid"] = frechet_distance(features, reference)
        rows.append(row | {"label_agreement": float((logits.argmax(axis=1) == labels).mean())})
    write_text(out / QUALITY, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def quality_and_effect(quality: pd.DataFrame, degradation: pd.DataFrame) -> pd.DataFrame:
    """Join FID and label agreement of each set with what it does, by setting.

    `degradation` comes from `lib.comparison.degradation_table`; `drop_pp` and `disagreement_pp`
    are means over models.
    """
    keys = ["engine", "method", "calibration_size", "calibration_set"]
    means = degradation.groupby(keys, sort=False)[["drop_pp", "agreement"]].mean().reset_index()
    means["disagreement_pp"] = 100 * (1 - means.pop("agreement"))
    return means.merge(quality, on="calibration_set", how="inner")


def quality_correlations(joined: pd.DataFrame) -> pd.DataFrame:
    """Return rank correlations over the sets between quality and effect, by setting.

    A positive one says that sets farther from the real images (by FID), or with fewer right labels,
    do more harm. NaN where fewer than two sets were measured or all are alike.
    """
    rows = []
    keys = ["engine", "method", "calibration_size"]
    for key, part in joined.groupby(keys, sort=False):
        signed = {"fid": part["fid"], "wrong labels": 1 - part["label_agreement"]}
        for (measure, values), effect in ((m, e) for m in signed.items() for e in EFFECTS):
            row = dict(zip(keys, key, strict=True)) | {"quality": measure, "effect": effect}
            rows.append(row | correlations(values, part[effect]))
    return pd.DataFrame(rows, columns=[*keys, "quality", "effect", "sets", "kendall", "spearman"])


def quality_words(found: pd.DataFrame) -> str:
    """Return a line of Markdown a setting on whether FID orders the sets as their effects do."""
    lines = []
    rows = found[found["quality"] == "fid"]
    for (engine, method), part in rows.groupby(["engine", "method"], sort=False):
        rhos = part.set_index("effect")["spearman"]
        texts = [f"{EFFECTS[effect]} {rho:+.2f}" for effect, rho in rhos.dropna().items()]
        if not texts:
            lines.append(f"- {int8_name(engine, method)}: too few sets, or all alike, to say.")
            continue
        told = [EFFECTS[effect] for effect, rho in rhos.items() if rho >= STRONG]
        kind = f"the sets' {' and '.join(told)} follow FID" if told else "neither follows FID"
        rho = f"Spearman's rho of FID over {part['sets'].iloc[0]} sets with"
        lines.append(f"- {int8_name(engine, method)}: {rho} {', with '.join(texts)}: {kind}.")
    return "\n".join(lines)


def _folders(folder: Path) -> list[Path]:
    if (folder / RECORD).is_file():
        return [folder]
    return sorted(record.parent for record in folder.glob(f"*/{RECORD}"))
