"""FID, IS, KID, precision and recall by torch-fidelity, on features of the study's classifier.

Such numbers depend on the number of images, the split, the extractor and the resizing: the table
states all four, and none may be compared with a number that differs in one of them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from lib.checkpoint import load_weights, save_tensors
from lib.classifier_training import WEIGHTS, load_classifier, predict_with_features
from lib.classifiers import NormalizedClassifier
from lib.data import load_real
from lib.errors import StudyError
from lib.files import write_text
from lib.sampleset import SampleSet
from lib.seeds import derive_seed


def evaluate(
    out: Path,
    *,
    evaluator: Path,
    real: Path,
    sets: dict[str, Path],
    per_class: int,
    kid_subset_size: int,
    kid_subsets: int,
    neighbours: int,
    seed: int,
    device: str = "cpu",
) -> None:
    """Compare sample sets with the real training images; write `metrics.csv` and predictions.

    `sets` maps a name (`teacher`, `student`) to a SampleSet folder, of which the first
    `per_class` images a class count. The real test images are measured beside them, as the
    figure that a perfect generator would reach, and every later set against the first one too.
    `predictions.safetensors` keeps, for each set, wanted and predicted labels.
    """
    network = load_classifier(evaluator, device)
    size = load_weights(evaluator / WEIGHTS)[1]["name"]
    train, test = load_real(real, "train"), load_real(real, "test")
    chosen = {"real test": test} | {
        name: first_per_class(SampleSet.load(path), per_class) for name, path in sets.items()
    }
    measured = {name: extract(network, samples.images) for name, samples in chosen.items()}
    reference = {"real train": extract(network, train.images)[0]}
    teacher = next(iter(sets))
    rows, predictions = [], {}
    for name, (features, logits) in measured.items():
        labels = torch.from_numpy(chosen[name].labels)
        predictions |= {f"{name}/wanted": labels, f"{name}/predicted": logits.argmax(1)}
        against = dict(reference)
        if name in sets and name != teacher:
            against[teacher] = measured[teacher][0]
        for other, other_features in against.items():
            figures = fidelity(
                features, other_features, logits, kid_subset_size, kid_subsets, neighbours, seed
            )
            rows.append(
                {
                    "set": name,
                    "against": other,
                    "n": len(features),
                    "n_against": len(other_features),
                    "extractor": f"{size} trained on real train, {features.shape[1]} features",
                    "resizing": "none (32×32)",
                    **figures,
                    "label_agreement": float((logits.argmax(1) == labels).double().mean()),
                }
            )
    write_text(out / "metrics.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    save_tensors(out / "predictions.safetensors", predictions, {"class_names": train.class_names})


def fidelity(
    features: torch.Tensor,
    reference: torch.Tensor,
    logits: torch.Tensor,
    kid_subset_size: int,
    kid_subsets: int,
    neighbours: int,
    seed: int,
) -> dict[str, float]:
    """Return FID, IS, KID, precision and recall of `features (n, d)` against `reference (m, d)`.

    `logits (n, classes)` give the inception score. Statistics are taken in float64.
    FID: Heusel et al. 2017; IS: Salimans et al. 2016; KID: Bińkowski et al. 2018; precision and
    recall: Kynkäänniemi et al. 2019.
    """
    features, reference = features.double(), reference.double()
    size = min(kid_subset_size, len(features), len(reference))
    if size <= neighbours:
        raise StudyError(f"{size} images are too few for {neighbours} neighbours: take more")
    generator_seed = derive_seed(seed, "metrics") % 2**32
    score = isc_features_to_metric(logits, rng_seed=generator_seed)
    distance = kid_features_to_metric(
        features,
        reference,
        kid_subset_size=size,
        kid_subsets=kid_subsets,
        rng_seed=generator_seed,
        verbose=False,
    )
    density = prc_features_to_metric(
        features, reference, prc_neighborhood=neighbours, save_cpu_ram=True, verbose=False
    )
    return {
        "fid": frechet_distance(features.numpy(), reference.numpy()),
        "is_mean": score["inception_score_mean"],
        "is_std": score["inception_score_std"],
        "kid_mean": distance["kernel_inception_distance_mean"],
        "kid_std": distance["kernel_inception_distance_std"],
        "precision": density["precision"],
        "recall": density["recall"],
    }


def extract(network: NormalizedClassifier, images: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Return features `(n, d)` before the last linear layer and logits `(n, classes)`, float32.

    `images` are `(n, 3, 32, 32) uint8`.
    """
    features, logits = predict_with_features(network, images)
    return torch.from_numpy(features), torch.from_numpy(logits)


def first_per_class(samples: SampleSet, per_class: int) -> SampleSet:
    """Return the first `per_class` samples of each class; too few are a `StudyError`."""
    classes = range(len(samples.class_names))
    index = [np.flatnonzero(samples.labels == label)[:per_class] for label in classes]
    for label, found in enumerate(index):
        if len(found) < per_class:
            raise StudyError(
                f"class {samples.class_names[label]} has {len(found)} samples, {per_class} wanted: "
                "raise sampling_per_class or lower the number taken"
            )
    return samples.subset(np.sort(np.concatenate(index)))


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of features `(n, d)` and `(m, d)`, in float64."""
    statistics = [
        fid_features_to_statistics(torch.from_numpy(values).double())
        for values in (features, reference)
    ]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def nearest_neighbours(features: torch.Tensor, reference: torch.Tensor) -> tuple[np.ndarray, ...]:
    """Return, for each row, the index of the nearest reference row and its Euclidean distance."""
    distance, index = torch.cdist(features.double(), reference.double()).min(dim=1)
    return index.numpy(), distance.numpy()
