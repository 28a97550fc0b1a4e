"""What is small enough for a repository: calibration sets in one file each, INT8 networks.

`outputs/<profile>/calibration/<kind>.safetensors` holds as many images as quantization reads,
`outputs/<profile>/int8/<network>.xml` and `.bin` a network that was calibrated with the best
set that can be had without data, and its `.json` how it was made. Each folder has a
card.
"""

import shutil
from pathlib import Path

import pandas as pd

from lib.calibration.kinds import KINDS
from lib.calibration.sets import balanced_order
from lib.classifiers.names import network_name
from lib.common.errors import StudyError
from lib.common.files import atomic_path, read_json, sha256_file, write_text
from lib.comparison.answer import best_without_data, of_way
from lib.comparison.models import MAIN, set_name
from lib.data.layouts import save_one_file
from lib.data.samples import SampleSet
from lib.publish.cards import licence, render_card
from lib.publish.weights import is_own
from lib.study.params import Params
from lib.study.study import Study

SETS = ("student", "teacher", "fractal", "photographs")


def publish_calibration(params: Params) -> list[Path]:
    """Write the calibration sets of `SETS` that the study has made; return their files."""
    study, rows, files = Study(params, "06_comparison"), [], []
    for name in SETS:
        if study.manifest.entry(f"calibration-{name}") is None:
            continue
        whole, kind = SampleSet.load(study.path(f"calibration-{name}")), KINDS[name]
        first = balanced_order(whole.labels, params.seed)[: params.quantization_subset_size]
        file = study.folder / "calibration" / f"{name}.safetensors"
        save_one_file(whole.subset(first), file)
        row = {"name": name, "what": kind.description, "images": len(first)}
        row |= {"labelled": kind.labelled, "licence": licence(kind.origin, params)}
        rows.append(row | {"sha256": sha256_file(file)})
        files.append(file)
    if not files:
        raise StudyError(f"{study.folder} holds no calibration sets: run notebook 04 first")
    card = render_card("calibration.md.j2", sets=rows, profile=params.profile)
    write_text(files[0].with_name("README.md"), card)
    return files


def publish_int8(params: Params) -> list[Path]:
    """Write the INT8 forms of the networks that the study has trained; return their .xml files.

    They are those of draw 0, by NNCF's default quantization with the best set that can be had
    without data. Networks from elsewhere are left out: they are not the study's to pass on; there
    may be none left.
    """
    study, rows, files = Study(params, "06_comparison"), [], []
    answers = study.folder / "tables" / "06_answers.csv"
    if not answers.is_file():
        raise StudyError(f"{answers} is missing: run notebook 06 first")
    kind, size = best_without_data(of_way(pd.read_csv(answers))), params.quantization_subset_size
    kept = study.path("quantization") / "models"
    for model in params.classifiers:
        source = kept / f"{model}.{'.'.join(MAIN)}.{kind}.{size}.xml"
        if not (source.is_file() and is_own(study, f"classifier-{model}", model)):
            continue
        target = study.folder / "int8" / f"{model}.xml"
        for end in (".bin", ".json", ".xml"):
            with atomic_path(target.with_suffix(end)) as temporary:
                shutil.copyfile(source.with_suffix(end), temporary)
        record, weights = read_json(target.with_suffix(".json")), target.with_suffix(".bin")
        row = {"name": model, "title": network_name(model), "images": record["test_images"]}
        row |= record["measured"] | {"bytes": weights.stat().st_size}
        rows.append(row | {"sha256": sha256_file(weights)})
        files.append(target)
    if files:
        about = {"networks": rows, "calibrated": set_name(kind), "images": size}
        about |= {"profile": params.profile, "class_names": record["class_names"]}
        about["terms"] = licence("statistics", params)
        write_text(files[0].with_name("README.md"), render_card("int8.md.j2", **about))
    return files
