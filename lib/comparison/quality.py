"""How near each calibration set is to the real images."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.common.files import write_text
from lib.common.seeds import numpy_generator
from lib.data.samples import RECORD, SampleSet
from lib.evaluation.distances import frechet_distance
from lib.evaluation.extractors import classifier_extractor, extract

QUALITY = "quality.csv"


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


def _all_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    alone = (folder / RECORD).is_file()
    folders = [folder] if alone else sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    parts = [SampleSet.load(part) for part in folders]
    return tuple(np.concatenate([getattr(p, n) for p in parts]) for n in ("images", "labels"))
