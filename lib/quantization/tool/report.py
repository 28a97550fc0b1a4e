"""The report of `quantize`: numbers as JSON, and a page that a person reads."""

from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment

from lib.common.files import write_json, write_text
from lib.quantization.tool.network import Network

TEMPLATE = Path(__file__).with_name("report_template.md")

CLASS_WORDS = "*Same class*: images that INT8 and floating point put in the same class. "
NOISE_WORDS = "*Signal to noise*: the output's power over its error's; at 20 dB the error is 10 %."
GOOD_SHARE, BAD_SHARE = 0.95, 0.8
GOOD_DB, BAD_DB = 20, 10


@dataclass(frozen=True)
class Report:
    """What `quantize_file` found.

    `files` are those of the two networks. `checks` has a row for each set of images checked on,
    calibration and output: `calibrated`, `checked`, `images`, `counts` (whether it decides: the
    images are not much like the calibration's), `output`, `agreement` (share, None where it gives
    no classes), `snr_db` (None where there is no error). `size` in bytes and `speed` are of `fp32`
    and `int8`; `clipped` is as `clipped_layers` gives it; `restored` operations went back to
    floating point; `seconds` are by part.
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
        write_json(folder / "report.json", asdict(self))
        write_text(folder / "report.md", self.page())


def verdict(rows: list[dict]) -> str:
    """Say in a sentence or two what INT8 keeps; `rows` are those of the kept network that count."""
    where = " and ".join(
        dict.fromkeys(f"{row['images']} images of {row['checked']}" for row in rows)
    )
    shares = [row["agreement"] for row in rows if row["agreement"] is not None]
    if shares:
        found = f"On {where}, INT8 gives the same class as floating point to {min(shares):.1%}"
        found += " in the worst case" * (len(shares) > 1)
        good, bad = min(shares) >= GOOD_SHARE, min(shares) < BAD_SHARE
    else:
        ratio = min((r["snr_db"] for r in rows if r["snr_db"] is not None), default=None)
        found = f"On {where}, the error of INT8 lies {_db(ratio)} below the output"
        good, bad = ratio is None or ratio >= GOOD_DB, ratio is not None and ratio < BAD_DB
    if good:
        return f"{found}."
    advice = "calibrate with images of its domain, ten are worth a lot, or give --max-drop"
    return (
        f"**{found}: too little to rely on.** Better: {advice}."
        if bad
        else f"{found}. Better: {advice}."
    )


def not_checked(own_images: bool, fed: str) -> str:
    """Say what the report does not know."""
    words = "Accuracy: that takes labelled images of the network's task."
    if not own_images:
        words += (
            " No image of its own domain was seen, either: what INT8 keeps of photographs and "
            "fractals it need not keep there. `--check FOLDER` with ten real images tells more."
        )
    assumed = (
        f" Nor whether it really takes {fed.split(', assumed')[0]}." if "assumed" in fed else ""
    )
    return words + assumed


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
from PIL import Image

picture = Image.open("picture.jpg").convert("{"L" if grey else "RGB"}").resize(({width}, {height}))
values = {values}
network = openvino.compile_model({str(xml)!r}, "CPU")
batch = numpy.repeat(values{turned}[None], {network.batch}, axis=0).astype("{kind}")
outputs = network(batch)  # {len(network.outputs)} of them"""


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}"


def _cell(text: str) -> str:
    """Return a name from a file as it may stand in a table of Markdown."""
    return "".join(c if c.isprintable() and c not in "|`<>" else "_" for c in text)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _db(ratio: float | None) -> str:
    return "equal" if ratio is None else f"{ratio:.1f} dB"
