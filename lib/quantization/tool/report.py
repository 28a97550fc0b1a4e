"""The report of `quantize`: numbers as JSON, and a page that a person reads."""

from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment

from lib.common.files import write_json, write_text
from lib.quantization.tool.network import Network

PAGE = "report.json"
TEMPLATE = Path(__file__).with_name("report_template.md")

CLASS_WORDS = "*Same class*: images that INT8 and floating point put in the same class. "
NOISE_WORDS = (
    "*Signal to noise*: how much larger the outputs are than INT8's error in them; more is better, "
    "at 20 dB the error is 10 % of the outputs, at 40 dB 1 %."
)
GOOD_SHARE, BAD_SHARE, LOST_SHARE = 0.95, 0.8, 0.5
GOOD_DB, BAD_DB, LOST_DB = 20, 10, 5
FEW = 30  # images


@dataclass(frozen=True)
class Report:
    """What `quantize_file` found.

    `files` are those of the two networks. `checks` has a row for each set of images checked on,
    calibration and output: `calibrated`, `checked`, `images`, `alike` (the images are like those of
    the calibration), `counts` (whether it decides), `output`, `agreement` (share, None where it
    gives no classes), `classes` (how many floating point gave), `snr_db` (None where there is no
    error). `size` in bytes and `speed` are of `fp32` and `int8`; `clipped` is as `clipped_layers`
    gives it; `doubt` is that of `wrong_scale`; so many layers' inputs were `restored` to floating
    point; `seconds` are by part.
    """

    name: str
    files: dict[str, str]
    sha256: str
    fed: str
    chosen: str
    bias_correction: str
    images_read: int
    restored: int
    checks: list[dict]
    size: dict[str, int]
    speed: dict[str, dict[str, float]]
    clipped: list[dict]
    verdict: str
    doubt: str
    unchecked: str
    seconds: dict[str, float]
    versions: dict[str, str]
    snippet: str

    def page(self) -> str:
        """Return the report as Markdown."""
        environment = Environment(autoescape=False, keep_trailing_newline=True)
        environment.globals |= {"mb": _mb, "times": _times, "percent": _percent, "db": _db}
        environment.filters["cell"] = _cell
        classifies = any(row["agreement"] is not None for row in self.checks)
        measure = CLASS_WORDS * classifies + NOISE_WORDS
        return environment.from_string(TEMPLATE.read_text("utf-8")).render(
            asdict(self) | {"measure": measure}
        )

    def write(self, folder: Path) -> None:
        """Write `report.json` and `report.md`."""
        write_json(folder / PAGE, asdict(self))
        write_text(folder / "report.md", self.page())


def verdict(rows: list[dict], calibrated: bool, checked: bool = False) -> str:
    """Say what INT8 keeps; `rows` are those of the kept network that count.

    `calibrated`, `checked`: with, and on, images that somebody gave. Where floating point puts all
    in one class, agreement tells nothing, and the error of the outputs speaks.
    """
    several = len({row["output"] for row in rows}) > 1
    shares = [row for row in rows if row["classes"] > 1]
    classed = {row["output"] for row in shares}
    others = [row for row in rows if row["output"] not in classed]
    sentences = []
    if shares:
        parts = [f"{row['agreement']:.1%} of {_where(row, several)}" for row in shares]
        sentences += [f"INT8 gives the class that floating point gives on {' and '.join(parts)}"]
    if others:
        parts = [f"{_db(row['snr_db'])} on {_where(row, several)}" for row in others]
        sentences += [f"Signal to noise of INT8's outputs: {' and '.join(parts)}"]
    found = ". ".join(sentences)
    if not shares and any(row["agreement"] is not None for row in rows):
        found += ". Floating point puts all of these in one class, so classes tell nothing: "
        found += "are --mean, --std and --input-max right?"
    seen = [(row["agreement"], (GOOD_SHARE, BAD_SHARE, LOST_SHARE)) for row in shares]
    seen += [(r["snr_db"], (GOOD_DB, BAD_DB, LOST_DB)) for r in others if r["snr_db"] is not None]
    good = all(value >= levels[0] for value, levels in seen)
    bad, lost = (any(value < levels[k] for value, levels in seen) for k in (1, 2))
    told = checked or lost
    little = "too little to rely on" if told else "little, on images made for the purpose"
    found = f"**{found}: {little}.**" if bad else found if found.endswith("?") else f"{found}."
    if min(row["images"] for row in rows) < FEW:
        found += " So few images tell little."
    if all(row["alike"] for row in rows):
        found += " These are the kinds of images that calibrated it: others may do worse."
    advice = ["check it by --check on images of its domain"] * (bad and not checked)
    advice += ["calibrate with images of its domain (hundreds, if there are)"] * (not calibrated)
    advice += ["return layers to floating point by --max-drop"] * bool(shares)
    advice = advice or ["calibrate with more images, or stay with floating point"]
    return found if good else f"{found} To do better, {', or '.join(advice)}."


def _where(row: dict, several: bool) -> str:
    output = f", output {_cell(row['output'])}" * several
    return f"{row['images']} image{'s' * (row['images'] != 1)} ({row['checked']}{output})"


def not_checked(calibrated: bool, checked: bool, fed: str) -> str:
    """Say what the report does not know; images that somebody gave calibrated it, or checked it."""
    words = "Accuracy: that takes labelled images of the network's task."
    if not checked:
        seen = "It was not checked on" if calibrated else "It has not seen"
        words += (
            f" {seen} images of its own domain, which may be far from photographs and fractals: "
            "`--check FOLDER` with images of it, ten at least, tells more."
        )
    if "assumed" in fed:
        return f"{words} Whether the network takes {fed.split(', assumed')[0]} was assumed, too."
    return (
        f"{words} Whether it is fed as it was trained, no check without labels can tell for sure."
    )


def snippet(xml: Path, network: Network) -> str:
    """Return the lines that use the INT8 network on a picture."""
    grey, entry = network.channels == 1, network.model.input(0)
    values = "numpy.asarray(picture, numpy.float32)" + "[..., None]" * grey
    values += "[..., ::-1]" * (network.colours == "BGR" and not grey)
    values += " / 255" * (network.input_max == 1)
    if any(network.mean) or set(network.std) != {1}:
        mean, std = ([round(value, 6) for value in v] for v in (network.mean, network.std))
        values = f"({values} - {mean}) / {std}"
    turned = ".transpose(2, 0, 1)" * (network.layout == "NCHW")
    kind = entry.get_element_type().to_dtype().name
    height, width = network.size
    return f"""\
import numpy, openvino
from PIL import Image, ImageOps

picture = Image.open("picture.jpg").convert("{"L" if grey else "RGB"}")
picture = ImageOps.fit(picture, ({width}, {height}))
values = {values}
network = openvino.compile_model({str(xml)!r}, "CPU")
batch = numpy.stack([values{turned}] * {network.batch}).astype("{kind}")
outputs = network(batch)  # outputs[0] is the first of {len(network.outputs)}"""


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def _cell(text: str) -> str:
    """Return a name from a file as it may stand in a table of Markdown."""
    return "".join(c if c.isprintable() and c not in "|`<>" else "_" for c in text)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _db(ratio: float | None) -> str:
    return "equal" if ratio is None else f"{ratio:.1f} dB"
