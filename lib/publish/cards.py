"""Cards of what is published, from the templates in `templates/`; under which terms it may go."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib.common.files import ROOT, resolve
from lib.study.params import Params

TEMPLATES = Path(__file__).with_name("templates")
LICENCES = {
    "digits": "CC BY 4.0 (Optical recognition of handwritten digits: E. Alpaydin, C. Kaynak; UCI)",
    "cifar10": "none stated for CIFAR-10 (A. Krizhevsky): research use, cite its author",
    "imagefolder": "that of the images in data_dir, which the study does not know",
}
PHOTOGRAPHS = (
    "those of the photographs: china.jpg (danielbuechele) and flower.jpg (vultilion), both CC BY "
    "2.0, cut and resized here; the others are in the public domain or CC0 (scikit-image)"
)
OWN_LICENCE = "Apache License 2.0, as the code: made by the study's code alone"


def render_card(template: str, **values) -> str:
    """Return a card as Markdown; a value that the template misses is an error."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"listed": listed, "references": references}
    return environment.get_template(template).render(values)


def listed(values: dict) -> str:
    """Write a dictionary in the order of its keys: `"batch_size 32, seed 1"`.

    What an inner one holds, such as the options of a stage, stands among the others.
    """
    flat = {}
    for key, value in values.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return ", ".join(f"{key} {value}" for key, value in sorted(flat.items()))


def references(inputs: dict) -> str:
    """Write what an artifact was made from, with hashes, from its entry in the manifest."""
    pairs = [pair for group in inputs.values() for pair in group.items()]
    return "; ".join(f"`{name}` (SHA-256 {value})" for name, value in pairs)


def licence(origin: str, params: Params) -> str:
    """Return under which terms something may be passed on, as far as the study knows.

    `origin` is what it was made from, as in `lib.calibration.kinds.Kind`.
    """
    if origin == "code":
        return OWN_LICENCE
    if origin == "photographs":
        return PHOTOGRAPHS
    terms = f"of the data: {LICENCES[params.data]}"
    if origin == "data":
        return terms
    own = params.teacher == "train" or resolve(params.teacher).is_relative_to(ROOT / "outputs")
    if origin == "generator" and not own:
        terms += "; of the teacher, which the study did not train: its own"
        if params.teacher == "official":
            terms += " (NVIDIA Source Code License, research and evaluation only)"
    return f"made from the data by the study's networks or statistics; the terms {terms}"
