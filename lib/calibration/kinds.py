"""The kinds of calibration sets, one record each: a new kind needs no more than an entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lib.calibration import makers
from lib.calibration.makers import Request, Samples


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of calibration set: how it is made and what is said of it.

    `make` draws the images; None: they are optimised for each network by itself
    (`lib.calibration.zeroq`). `needs` names the artifact whose images it reads. `origin` decides
    the licence: images of the data, of the study's generators, made from statistics of the data
    or of networks, by code alone, or cut out of photographs that libraries install. `series` joins
    doses of one thing; `dose` is how much of it. `drawn` says how `lib.calibration.sources` makes
    the images that it reads, if that does.
    """

    name: str
    label: str = ""  # for readers; the name where there is none
    colour: str
    description: str  # a sentence
    make: Callable[[Request], Samples] | None
    origin: Literal["data", "generator", "statistics", "code", "photographs"]
    needs: str = ""
    labelled: bool = True  # the images show the classes of their labels
    control: bool = False  # there to do worse
    series: str = ""
    dose: float = 1.0
    drawn: Literal["", "truncated", "unfinished", "file"] = ""

    @property
    def title(self) -> str:
        """What readers see."""
        return self.label or self.name

    @property
    def is_dose(self) -> bool:
        """Whether it is one of several doses, not the whole."""
        return bool(self.series) and self.dose < 1

    @property
    def per_network(self) -> bool:
        """Whether each network has a set of its own."""
        return self.make is None

    @property
    def inputs(self) -> dict[str, str]:
        """The artifacts that `make_calibration_set` reads, by its arguments."""
        return {"source": self.needs} if self.needs else {}


TRAINED, TRUNCATED, SPOILT = "training of the student", "truncation of the teacher", "spoilt images"
REAL = {"origin": "data", "needs": "real/train"}
STUDENT = {"origin": "generator", "needs": "student_samples"}
CONTROL = {"labelled": False, "control": True}


def _drawn(name: str, label: str, colour: str, description: str, **dose) -> Kind:
    """Return a kind with samples of its own, `samples-<name>`."""
    given = {"make": makers.draw_balanced, "origin": "generator", "needs": f"samples-{name}"}
    given |= {"drawn": "file"} | dose
    return Kind(name=name, label=label, colour=colour, description=description, **given)


def _unfinished(number: int, colour: str) -> Kind:
    """Return the student at its moment `number` of 15, which lie at the squares of their number."""
    dose = (number / 15) ** 2
    label = f"student, {100 * dose:.2g} % trained"
    text = f"Images of the student as it was after {100 * dose:.2g} % of its training."
    how = {"series": TRAINED, "dose": dose, "drawn": "unfinished"}
    return _drawn(f"student_{number}", label, colour, text, **how)


def _truncated(psi: float, colour: str) -> Kind:
    text = f"Images of the teacher with truncation psi = {psi:g}: typical ones, less varied."
    how = {"series": TRUNCATED, "dose": psi, "drawn": "truncated"}
    name, label = f"teacher_{100 * psi:.0f}", f"teacher, truncation {psi:g}"
    return _drawn(name, label, colour, text, **how)


def _spoilt(what: str, label: str, colour: str, description: str, make: Callable) -> Kind:
    how = {"name": f"real_{what}", "label": f"real, {label}", "series": SPOILT, "dose": 0.0}
    return Kind(**how, colour=colour, description=description, make=make, **REAL)


ALL = (
    Kind(
        name="real",
        colour="#1f77b4",
        description="Training images.",
        make=makers.draw_balanced,
        **REAL,
    ),
    Kind(
        name="teacher",
        colour="#ff7f0e",
        description="Images of the teacher, StyleGAN2-ADA, from random latents.",
        make=makers.draw_balanced,
        origin="generator",
        needs="teacher_samples",
        series=TRUNCATED,
    ),
    Kind(
        name="student",
        colour="#2ca02c",
        description="Images of the student, DiStyleGAN distilled from the teacher, from random "
        "latents.",
        make=makers.draw_balanced,
        **STUDENT,
        series=TRAINED,
    ),
    Kind(
        name="fractal",
        label="fractals",
        colour="#d62728",
        description="Coloured fractals of random iterated function systems, one family a class.",
        make=makers.make_fractals,
        origin="code",
    ),
    Kind(
        name="photographs",
        colour="#17becf",
        description="Squares cut at many scales out of nine free photographs.",
        make=makers.make_photographs,
        origin="photographs",
        labelled=False,
    ),
    Kind(
        name="photographs_fractal",
        label="photographs and fractals",
        colour="#5254a3",
        description="Crops of photographs and fractals, half of each.",
        make=makers.mix_photographs_with_fractals,
        origin="photographs",
        labelled=False,
    ),
    Kind(
        name="student_fractal",
        label="student and fractals",
        colour="#98761f",
        description="The student's images and fractals, half of each.",
        make=makers.mix_with_fractals,
        **STUDENT,
    ),
    Kind(
        name="zeroq",
        label="ZeroQ",
        colour="#8c564b",
        description="Noise optimised to match a classifier's batch normalisation statistics "
        "(ZeroQ, 2020).",
        make=None,
        origin="statistics",
        labelled=False,
    ),
    _drawn(
        "student_original",
        "student by the original recipe",
        "#006d2c",
        "Images of a student that the original DiStyleGAN's recipe trained.",
    ),
    _drawn("student_b", "second student", "#41ab5d", "Images of a student of another seed."),
    _drawn("student_c", "third student", "#74c476", "Images of a student of a third seed."),
    _drawn(
        "teacher_early",
        "earlier teacher",
        "#d94801",
        "Images of the teacher as it was earlier in its training.",
    ),
    _unfinished(1, "#d9f0d3"),
    _unfinished(2, "#bfe3b4"),
    _unfinished(4, "#9fd494"),
    _unfinished(8, "#6fbf73"),
    _truncated(0.4, "#fdd0a2"),
    _truncated(0.6, "#fdb97d"),
    _truncated(0.8, "#fd9f4e"),
    _spoilt("blurred", "blurred", "#6baed6", "Training images, blurred.", makers.draw_blurred),
    _spoilt(
        "flat",
        "low contrast",
        "#9ecae1",
        "Training images with 30 % of their contrast.",
        makers.draw_flat,
    ),
    _spoilt(
        "dark", "dark", "#08306b", "Training images with 25 % of their light.", makers.draw_dark
    ),
    Kind(
        name="noise",
        colour="#9467bd",
        description="Uniform random pixels.",
        make=makers.make_noise,
        origin="code",
        **CONTROL,
    ),
    Kind(
        name="gaussian",
        label="Gaussian noise",
        colour="#7f7f7f",
        description="Gaussian noise with the training images' mean and deviation by channel.",
        make=makers.make_gaussian,
        origin="statistics",
        needs="real/train",
        **CONTROL,
    ),
    Kind(
        name="one_class",
        label="one class",
        colour="#bcbd22",
        description="Training images of the first class alone.",
        make=makers.draw_one_class,
        **REAL,
        control=True,
    ),
    Kind(
        name="grey",
        label="one grey image",
        colour="#e377c2",
        description="One mid-grey image.",
        make=makers.make_grey,
        origin="code",
        **CONTROL,
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in ALL}
"""The kinds of sets by name, in the order in which they are shown."""
