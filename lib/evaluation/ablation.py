"""What each step from the original's distillation to the study's brings, at equal images shown.

A run trains one variant and measures its student; its figures are kept in a small file. An
interrupted run goes on from its last checkpoint.
"""

import io
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.common.errors import StudyError
from lib.common.files import read_json, write_json
from lib.common.progress import progress
from lib.common.seeds import torch_generator
from lib.data.real import load_real
from lib.data.samples import SampleSet
from lib.evaluation.course import TABLE, training_course
from lib.evaluation.distances import frechet_distance, frechet_estimate
from lib.evaluation.extractors import classifier_extractor, extract, open_extractor
from lib.evaluation.features import first_per_class
from lib.evaluation.size import count_parameters
from lib.student.build import Student
from lib.student.distillation import distill
from lib.student.options import StudentOptions
from lib.student.sampling import generate, load_student

MOST = 10_000  # of the teacher's images that students are compared with
COURSE_PER_CLASS = 100
SHOWN_PER_CLASS = 2


@dataclass(frozen=True)
class Variant:
    """What a variant changes of the options, the variant that it is compared with, in words.

    share: the part of the teacher's samples that it sees.
    """

    base: str
    words: str
    changes: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0


VARIANTS = {
    "original": Variant("original", "DiStyleGAN as it first was", {"recipe": "original"}),
    "old generator": Variant(
        "original",
        "its generator, in the game that the teacher was trained by",
        {"generator": "distylegan", "pairing_weight": 0.0},
    ),
    "samples alone": Variant(
        "old generator", "a small StyleGAN2 in the same game", {"pairing_weight": 0.0}
    ),
    "default": Variant("samples alone", "and, at first, a loss that pairs it with the teacher"),
    "no augmentation": Variant(
        "default", "the default without adaptive augmentation", {"ada_target": 0.0}
    ),
    "some real images": Variant(
        "default", "every fourth image shown as true is a real one", {"real_share": 0.25}
    ),
    "fewer samples": Variant("default", "the default on a quarter of the samples", share=0.25),
}
"""Four steps, then departures from the last."""


def chosen_variants(names: list[str]) -> dict[str, Variant]:
    """Return the variants of these names, all if there are none; an unknown one is an error."""
    for name in names:
        if name not in VARIANTS:
            raise StudyError(f"ablation_variants: {name} is none of {', '.join(VARIANTS)}")
    return {name: VARIANTS[name] for name in VARIANTS if name in names or not names}


def run_ablation(
    out: Path,
    *,
    samples: Path,
    real: Path,
    evaluator: Path,
    options: StudentOptions,
    names: list[str],
    per_class: int,
    seed: int,
    extractor: str = "classifier",
    device: str = "cpu",
) -> None:
    """Train the variants `names` (none: all) and measure `per_class` images a class; a file each.

    `options` are those that the variants share; `seed` is that of this run. Distances are taken
    in the evaluator's features and, where `extractor` is another, in that one's, too. Beside the
    figures of a variant lie a few of its images, `images-<variant>`.
    """
    measure = Measure(samples, real, evaluator, extractor, per_class, device)
    write_json(out / "yardsticks.json", measure.yardsticks())
    for name, variant in progress(list(chosen_variants(names).items()), "ablation", unit="variant"):
        path = out / f"run-{name.replace(' ', '-')}.json"
        if path.exists():
            continue
        work = path.with_suffix("")
        sets = {"samples": shown_samples(samples, variant.share, work), "real": real / "train"}
        chosen = replace(options, **variant.changes)
        try:
            with redirect_stdout(io.StringIO()):
                distill(work / "student", **sets, seed=seed, options=chosen, device=device)
            student = load_student(work / "student" / "student.safetensors", device)
            figures = measure(student, seed)
            figures["course"] = course(work, samples, evaluator, per_class, seed)
            few_images(student, measure.own, seed).save(out / path.stem.replace("run", "images"))
        except StudyError as error:  # this variant diverged; the others go on
            figures = dict.fromkeys(measure.names) | {"n": measure.n, "failed": str(error)}
        write_json(path, {"variant": name, "seed": seed} | figures)
        shutil.rmtree(work)


def course(work: Path, samples: Path, evaluator: Path, per_class: int, seed: int) -> list[dict]:
    """Return `kimg`, `distance` and `auc` of each moment of the student in `work/student`.

    As `training_course` has it, of 100 images a class at most; `auc` is the mean of the
    discriminator's since the moment before.
    """
    options = {"per_class": min(per_class, COURSE_PER_CLASS), "seed": seed}
    options |= {"student": work / "student", "samples": samples, "evaluator": evaluator}
    training_course(work / "course", **options)
    table = pd.read_csv(work / "course" / TABLE)[["kimg", "distance"]]
    log = pd.read_csv(work / "student" / "log.csv")
    moment = np.searchsorted(table["kimg"], log["kimg"]).clip(max=len(table) - 1)
    table["auc"] = log.groupby(moment)["auc"].mean()
    return table.astype(object).where(table.notna(), None).to_dict("records")


def few_images(student: Student, like: SampleSet, seed: int) -> SampleSet:
    """Return `SHOWN_PER_CLASS` images of each class, of the same latents for all students."""
    labels = np.arange(SHOWN_PER_CLASS * student.c_dim) % student.c_dim
    draws = torch_generator(seed, "ablation images")
    latents = torch.randn(len(labels), student.z_dim, generator=draws)
    return SampleSet(generate(student, latents, labels), labels, info=like.info)


def shown_samples(samples: Path, share: float, work: Path) -> Path:
    """Return where the first `share` of each class of the samples lies; it may be written there."""
    (work / "student").mkdir(parents=True, exist_ok=True)
    if share == 1:
        return samples
    whole = SampleSet.load(samples)
    per_class = round(share * len(whole) / len(whole.class_names))
    first_per_class(whole, per_class).save(work / "samples")
    return work / "samples"


class Measure:
    """Measures students beside their teacher's images and the real test images.

    For `n` images of fresh normal latents: `label_agreement`, the share in which the evaluator
    sees the wanted class; Fréchet distances `fid_real` and `fid_teacher` in its features, and
    `other_fid_…` in another extractor's, those to real images with jackknife intervals; over the
    teacher's latents `pixel_difference`, the mean absolute difference, of 255, to its images.
    """

    def __init__(
        self,
        teacher: Path,
        real: Path,
        evaluator: Path,
        extractor: str,
        per_class: int,
        device: str,
    ) -> None:
        self.spaces = {"": classifier_extractor(evaluator, device)}
        if extractor != "classifier":
            self.spaces["other_"] = open_extractor(extractor, device)
        whole, test = SampleSet.load(teacher), load_real(real, "test")
        self.n = per_class * len(whole.class_names)
        place = pd.Series(whole.labels).groupby(whole.labels).cumcount()  # in its class
        self.own = whole.subset(np.flatnonzero(place < per_class))
        rest = np.flatnonzero(place >= per_class)[:MOST]
        self.counts = {"n_real": len(test), "n_teacher": len(rest)}
        others = {"real": test.images, "teacher": whole.images[rest]}
        self.references = {
            f"{space}fid_{name}": extract(network, images)[0]
            for space, network in self.spaces.items()
            for name, images in others.items()
        }
        self.names = ["label_agreement", *self.references, "pixel_difference"]

    def __call__(self, student: Student, seed: int) -> dict[str, float]:
        """Return the figures of one trained student."""
        draws = torch_generator(seed, "ablation samples")
        latents = torch.randn(self.n, student.z_dim, generator=draws)
        labels = np.arange(self.n) % student.c_dim
        figures = self.figures(generate(student, latents, labels), labels)
        copies = generate(student, self.own.latents, self.own.labels).astype(float)
        figures["pixel_difference"] = float(np.abs(copies - self.own.images).mean())
        return figures | {"parameters": count_parameters(student)}

    def figures(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return distances, label agreement and n of images with their wanted labels."""
        found: dict[str, float] = {"n": len(images)}
        for space, network in self.spaces.items():
            features, logits = extract(network, images)
            if not space:
                found["label_agreement"] = float((logits.argmax(1) == labels).mean())
            real = frechet_estimate(features, self.references[f"{space}fid_real"])
            ends = {f"{space}fid_real{end}": real[f"fid{end}"] for end in ("", "_low", "_high")}
            teacher = frechet_distance(features, self.references[f"{space}fid_teacher"])
            found |= ends | {f"{space}fid_teacher": teacher}
        return found

    def yardsticks(self) -> dict[str, Any]:
        """Return what the teacher's own images reach, the names of the distances, and counts."""
        names = {space: network.distance for space, network in self.spaces.items()}
        teacher = self.figures(self.own.images, self.own.labels)
        return {"teacher": teacher, "distances": names} | self.counts


def load_ablation(folders: list[Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return one row a run, in the order of the variants, and the yardsticks."""
    rows = [read_json(path) for folder in folders for path in sorted(folder.glob("run-*.json"))]
    rows.sort(key=lambda row: list(VARIANTS).index(row["variant"]))
    return pd.DataFrame(rows), read_json(folders[0] / "yardsticks.json")


def ablation_course(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each `kimg`, with columns `<variant>, AUC` and `<variant>, distance`."""
    parts = [
        pd.DataFrame(row.course).assign(variant=row.variant)
        for row in rows.dropna(subset=["course"]).itertuples()
    ]
    whole = pd.concat(parts).rename(columns={"auc": "AUC"}).astype({"AUC": float})
    means = whole.groupby(["kimg", "variant"], sort=False)[["distance", "AUC"]].mean()
    wide = means.unstack("variant")
    wide.columns = [f"{variant}, {measure}" for measure, variant in wide.columns]
    return wide.sort_index().reset_index()


def ablation_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the seeds, one row a variant.

    `<measure>_gain` is the mean over the seeds of what the variant gains on its base (positive:
    better), `<measure>_gain_std` its standard deviation; both are paired by seed, and NaN where
    the base was not run.
    """
    kept = {"variant", "seed", "n", "parameters", "failed", "course"}
    rows = rows.copy()
    measures = [name for name in rows if name not in kept and not name.endswith(("_low", "_high"))]
    rows[measures] = rows[measures].astype(float)  # NaN where a run diverged
    found = []
    for name, part in rows.groupby("variant", sort=False):
        base = rows[rows["variant"] == VARIANTS[name].base].set_index("seed")
        row = {"variant": name, "seeds": len(part), "n": part["n"].iloc[0]}
        row["parameters"] = part["parameters"].iloc[0]
        for measure in measures:
            values = part.set_index("seed")[measure]
            row[measure], row[f"{measure}_std"] = values.mean(), values.std()
            sign = 1 if measure == "label_agreement" else -1
            gain = sign * (values - base[measure])
            row[f"{measure}_gain"], row[f"{measure}_gain_std"] = gain.mean(), gain.std()
        found.append(row)
    return pd.DataFrame(found)
