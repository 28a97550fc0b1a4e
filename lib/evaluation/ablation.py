"""Which change to the original distillation is worth what: the same data and updates for each.

A run trains one variant and measures its student; its figures are kept in a small file, so that
an interrupted ablation goes on with the next run.
"""

import io
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.classifiers.training import accuracy, load_classifier, predict_with_features
from lib.common.errors import StudyError
from lib.common.files import read_json, write_json
from lib.common.progress import progress
from lib.common.seeds import torch_generator
from lib.data.real import load_real
from lib.data.samples import SampleSet
from lib.evaluation.distances import frechet_distance
from lib.evaluation.size import count_parameters
from lib.student.distillation import distill
from lib.student.networks import Generator
from lib.student.options import CHANGES, NEEDS, StudentOptions
from lib.student.sampling import generate, load_student

AUGMENT = "translation"  # of the variants that measure augmentation
FASTER = "original+learning_rate"
TAKEN_AWAY = ("-projection", "-average", "-pixel_epochs", "-one_pass", "-rate_decay")
MEASURES = ("fid_teacher", "fid_real", "label_agreement", "pixel_difference")


@dataclass(frozen=True)
class Variant:
    """A recipe, the variant that it differs from by one thing, and the teacher's latents.

    Where the recipe ends in `+augment`, the augmentation is `AUGMENT`.
    """

    recipe: str
    base: str
    latents: str = "normal"


def variants() -> dict[str, Variant]:
    """Return the variants by name: the two recipes, and each with one thing changed.

    At the original's learning rate a short training is far from its end, so that changes to the
    original are measured on top of the study's.
    """
    found = {"original": Variant("original", "original")}
    found["original, uniform latents"] = Variant("original", "original", "uniform")
    found[FASTER] = Variant(FASTER, "original")
    for name in CHANGES:
        if name != "learning_rate":
            recipe = "+".join([FASTER, *sorted(NEEDS.get(name, ())), name])
            found[f"{FASTER}+{name}"] = Variant(recipe, FASTER)
    found["default"] = Variant("default", "default")
    for change in ("+residual", "+adversarial", "+augment", *TAKEN_AWAY):
        found[f"default{change}"] = Variant(f"default{change}", "default")
    return found


def chosen_variants(names: list[str]) -> dict[str, Variant]:
    """Return the variants of these names, all if there are none; an unknown one is an error."""
    found = variants()
    for name in names:
        if name not in found:
            raise StudyError(f"ablation_variants: {name} is none of {', '.join(found)}")
    return {name: found[name] for name in found if name in names or not names}


def run_ablation(
    out: Path,
    *,
    samples: dict[str, Path],
    real: Path,
    evaluator: Path,
    options: StudentOptions,
    names: list[str],
    per_class: int,
    seed: int,
    device: str = "cpu",
) -> None:
    """Train the variants `names` (none: all) and measure `per_class` images a class; a file each.

    `samples` maps "normal" and, where a variant asks for it, "uniform" to the teacher's SampleSets
    from such latents; `seed` is that of this run; `options` are those that the variants share,
    whose recipe does not count.
    """
    measure = Measure(samples["normal"], real, evaluator, per_class, device)
    write_json(out / "yardsticks.json", measure.yardsticks())
    for name, variant in progress(list(chosen_variants(names).items()), "ablation", unit="variant"):
        path = out / f"run-{re.sub(r'[^0-9a-z.+_-]+', '_', name)}.json"
        if path.exists():
            continue
        augment = AUGMENT if variant.recipe.endswith("+augment") else options.augment
        # a run is short: no checkpoints
        chosen = replace(options, recipe=variant.recipe, augment=augment, checkpoint_updates=10**9)
        sets = {"samples": samples[variant.latents], "real": real / "train"}
        shutil.rmtree(out / "run", ignore_errors=True)
        (out / "run").mkdir(parents=True)
        try:
            with redirect_stdout(io.StringIO()):
                distill(out / "run", **sets, seed=seed, options=chosen, device=device)
            student = load_student(out / "run" / "student.safetensors", device)
            figures = measure(student, seed)
        except StudyError as error:  # this variant diverged; the others go on
            figures = dict.fromkeys(MEASURES) | {"n": measure.n, "failed": str(error)}
        shutil.rmtree(out / "run")
        write_json(path, {"variant": name, "seed": seed} | figures)


class Measure:
    """Measures students by the evaluator's features.

    `fid_real`: FID to all real test images; `fid_teacher`: to all the teacher's images;
    `label_agreement`: share of images in which the evaluator sees the wanted class, all for `n`
    images of fresh normal latents; `pixel_difference`: mean absolute difference, of 255, to the
    teacher's images of the same latents.
    """

    def __init__(
        self, teacher: Path, real: Path, evaluator: Path, per_class: int, device: str
    ) -> None:
        self.network = load_classifier(evaluator, device)
        self.teacher, self.test = SampleSet.load(teacher), load_real(real, "test")
        self.n = per_class * len(self.teacher.class_names)
        self.references = {
            "fid_real": predict_with_features(self.network, self.test.images)[0],
            "fid_teacher": predict_with_features(self.network, self.teacher.images)[0],
        }

    def __call__(self, student: Generator, seed: int) -> dict[str, float]:
        """Return the figures of one trained student."""
        draws = torch_generator(seed, "ablation samples")
        latents = torch.randn(self.n, student.z_dim, generator=draws)
        labels = np.arange(self.n) % student.c_dim
        figures = self.figures(generate(student, latents, labels), labels)
        first = self.teacher.subset(np.arange(min(1000, len(self.teacher))))
        copies = generate(student, first.latents, first.labels).astype(float)
        figures["pixel_difference"] = float(np.abs(copies - first.images).mean())
        return figures | {"parameters": count_parameters(student)}

    def figures(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return FIDs, label agreement and n of images with their wanted labels."""
        features, logits = predict_with_features(self.network, images)
        figures = {k: frechet_distance(features, other) for k, other in self.references.items()}
        return figures | {"label_agreement": accuracy(logits, labels), "n": len(images)}

    def yardsticks(self) -> dict[str, Any]:
        """Return what the teacher's first n images reach, and the numbers of reference images.

        The teacher's distance to itself is that of these images to all its others.
        """
        n, features = self.n, self.references["fid_teacher"]
        figures = self.figures(self.teacher.images[:n], self.teacher.labels[:n])
        own = frechet_distance(features[:n], features[n:]) if len(features) > n else None
        figures["fid_teacher"] = own
        return {"teacher": figures, "n_real": len(self.test), "n_teacher": len(self.teacher)}


def load_ablation(folders: list[Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return one row a run, in the order of the variants, and the yardsticks."""
    rows = [read_json(path) for folder in folders for path in sorted(folder.glob("run-*.json"))]
    rows.sort(key=lambda row: list(variants()).index(row["variant"]))
    table = pd.DataFrame(rows)
    measures = table.columns.intersection(MEASURES)
    table[measures] = table[measures].astype(float)  # NaN where a run diverged
    return table, read_json(folders[0] / "yardsticks.json")


def ablation_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the seeds, one row a variant.

    `<measure>_gain` is the mean over the seeds of what the variant gains on the recipe it starts
    from (positive: better), `<measure>_gain_std` its standard deviation; both are paired by seed,
    and NaN where that recipe was not run.
    """
    found = []
    for name, part in rows.groupby("variant", sort=False):
        base = rows[rows["variant"] == variants()[name].base].set_index("seed")
        row = {"variant": name, "seeds": len(part), "n": part["n"].iloc[0]}
        row["parameters"] = part["parameters"].iloc[0]
        for measure in MEASURES:
            values = part.set_index("seed")[measure]
            row[measure], row[f"{measure}_std"] = values.mean(), values.std()
            sign = 1 if measure == "label_agreement" else -1
            gain = sign * (values - base[measure])
            row[f"{measure}_gain"], row[f"{measure}_gain_std"] = gain.mean(), gain.std()
        found.append(row)
    return pd.DataFrame(found)
