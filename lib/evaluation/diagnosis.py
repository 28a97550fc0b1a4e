"""What FID cannot say, said by name: copies, collapse, wrong labels, images that look unreal.

Every threshold is relative to what the real test images show in the same measurement.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.common.files import read_json, write_json, write_text
from lib.evaluation.evidence import Evidence, Examined, gather, real_spacing

COPIES = 0.05  # share of near copies, beyond twice that among the real test images
COLLAPSED = 0.25  # of the test images' share of distinct images, or of their features' diversity
UNREAL, REAL = 0.5, 0.75  # of the test images' precision: below, or from where images look real
DISTANT, NEAR = 1.5, 1.2  # times their distance to the nearest training image: above, or up to
WRONG = 0.75  # of the evaluator's accuracy on them
EXCHANGED = 0.1  # gain in agreement by renaming classes
CHECKS, DIVERSITY, FINDINGS = "checks.csv", "diversity.csv", "findings.json"


def examine(
    out: Path,
    *,
    samples: dict[str, Path],
    features: dict[str, Path],
    per_class: int,
    neighbours: int,
) -> None:
    """Examine sets of images; write `checks.csv`, `diversity.csv` and `findings.json` into `out`.

    `samples` and `features` map `real train`, `real test` and the names of the sets to folders of
    a SampleSet and of its `extract_features`, which took `per_class` images of each made set. At
    most 2,000 images of a set are examined, against all training images.
    """
    train = Examined.load(samples["real train"], features["real train"])
    sets = {
        name: Examined.load(
            folder, features[name], None if name == "real test" else per_class
        ).some()
        for name, folder in samples.items()
        if name != "real train"
    }
    spacing = real_spacing(sets["real test"])
    evidence = {name: gather(found, train, spacing, neighbours) for name, found in sets.items()}
    test, names = evidence["real test"], train.features.class_names
    made = {name: found for name, found in evidence.items() if name != "real test"}
    findings = [
        {"set": name, "faults": diagnose(name, found, test, names)} for name, found in made.items()
    ]
    write_text(out / CHECKS, checks_table(evidence).to_csv(index=False, float_format="%.6g"))
    table = diversity_table(evidence, names)
    write_text(out / DIVERSITY, table.to_csv(index=False, float_format="%.6g"))
    write_json(out / FINDINGS, findings)


def load_findings(folder: Path) -> dict[str, list[str]]:
    """Read what `examine` found: sentences by set, none for a set without fault."""
    return {entry["set"]: entry["faults"] for entry in read_json(folder / FINDINGS)}


def diagnose(name: str, found: Evidence, real: Evidence, class_names: list[str]) -> list[str]:
    """Return a sentence for each fault of the set `name`, beside the real test images' evidence.

    The faults: it "copies training images", "has collapsed", its "labels do not match" although
    the images look real or fit after renaming, it "does not look like the real images".
    """
    faults = [_unreal(name, found, real), _copies(name, found, real)]
    faults.append(_collapsed(name, found, real, class_names))
    faults.append(_labels(name, found, real, class_names))
    return [fault for fault in faults if fault]


def _unreal(name: str, found: Evidence, real: Evidence) -> str | None:
    if _looks_real(found, real, UNREAL, DISTANT):
        return None
    return (
        f"{name} does not look like the real images: precision {found.precision:.0%} (real test "
        f"{real.precision:.0%}), {_distance(found, real):.1f} times as far from the nearest "
        "training image"
    )


def _looks_real(found: Evidence, real: Evidence, precision: float, distance: float) -> bool:
    return found.precision >= precision * real.precision and _distance(found, real) <= distance


def _distance(found: Evidence, real: Evidence) -> float:
    """Return how much farther from the training images than test images, in pixels or features."""
    if min(real.pixel_ratio, real.feature_ratio) <= 0:
        raise StudyError("real test images are training images, too: give test images of their own")
    pixels = found.pixel_ratio / real.pixel_ratio
    return max(pixels, found.feature_ratio / real.feature_ratio)


def _copies(name: str, found: Evidence, real: Evidence) -> str | None:
    if found.near_copies <= COPIES + 2 * real.near_copies:
        return None
    return (
        f"{name} copies training images: {found.near_copies:.0%} of {found.n:,} images are near "
        f"copies of one (real test {real.near_copies:.0%})"
    )


def _collapsed(name: str, found: Evidence, real: Evidence, class_names: list[str]) -> str | None:
    with np.errstate(invalid="ignore", divide="ignore"):
        diversity = found.diversity / real.diversity
        few = (found.distinct < COLLAPSED * real.distinct) | (diversity < COLLAPSED)
    if not few.any():
        return None
    return (
        f"{name} has collapsed in {_classes(few, class_names)}: {found.distinct[few].mean():.0%} "
        f"of its images there are distinct (real test {np.nanmean(real.distinct):.0%}), their "
        f"features {np.nanmean(diversity[few]):.2f} times as diverse as real ones"
    )


def _labels(name: str, found: Evidence, real: Evidence, class_names: list[str]) -> str | None:
    seen, expected = found.label_agreement, real.label_agreement
    moved = found.renamed != np.arange(len(class_names))
    gain = found.renamed_agreement - seen
    exchanged = gain > EXCHANGED and found.renamed_agreement > WRONG * expected
    if not exchanged and not (seen < WRONG * expected and _looks_real(found, real, REAL, NEAR)):
        return None
    text = (
        f"{name}'s labels do not match: the evaluator sees the wanted class in {seen:.0%} of its "
        f"images (real test {expected:.0%})"
    )
    if not exchanged:
        return f"{text}, while {found.precision:.0%} of them lie among real ones in its features"
    return f"{text}; with {_classes(moved, class_names)} renamed, in {found.renamed_agreement:.0%}"


def _classes(chosen: np.ndarray, class_names: list[str], most: int = 5) -> str:
    """Name the chosen classes, or count them where they are many."""
    names = [class_names[index] for index in np.flatnonzero(chosen)]
    if len(names) > most:
        return f"{len(names)} of {len(class_names)} classes"
    return f"class{'es' if len(names) > 1 else ''} {', '.join(names)}"


def checks_table(evidence: dict[str, Evidence]) -> pd.DataFrame:
    """Return one row a set, means over the classes."""
    columns = ("n", "near_copies", "pixel_ratio", "feature_ratio", "precision", "label_agreement")
    return pd.DataFrame(
        [
            {"set": name}
            | {column: getattr(found, column) for column in columns}
            | {"renamed_agreement": found.renamed_agreement}
            | {"distinct": np.nanmean(found.distinct), "diversity": np.nanmean(found.diversity)}
            for name, found in evidence.items()
        ]
    )


def diversity_table(evidence: dict[str, Evidence], class_names: list[str]) -> pd.DataFrame:
    """Return one row for each set and class: distances within it, and those of real test images."""
    rows = []
    for name, found in evidence.items():
        for index, label in enumerate(class_names):
            row = {"set": name, "class": label, "feature_distance": found.diversity[index]}
            row |= {"pixel_distance": found.pixel_diversity[index]}
            row |= {"against_real": found.diversity[index] / evidence["real test"].diversity[index]}
            rows.append(row | {"distinct": found.distinct[index]})
    return pd.DataFrame(rows)
