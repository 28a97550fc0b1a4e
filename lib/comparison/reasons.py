"""Why a calibration set harms a network: what its ranges do to real activations, layer by layer.

Too narrow a range clips activations, too wide a one wastes levels. Both are counted in the ranges
of the INT8 networks that the grid kept, on activations of real test images. Beside them stands
what needs no ranges: how far the Gram matrices of the set's activations are from those of real
images (after Yu et al. 2021, arXiv 2105.07331).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib.classifiers.names import UNFUSED, network_name
from lib.common.errors import StudyError
from lib.common.files import write_text
from lib.common.openvino import read_ir
from lib.common.progress import progress
from lib.common.seeds import numpy_generator
from lib.comparison.answer import of_way
from lib.comparison.models import MAIN, REAL
from lib.data.samples import RECORD, SampleSet
from lib.quantization.activations import BATCH, activations, batches, range_faults
from lib.quantization.cell import Cell
from lib.quantization.fake_quantize import Quantizer, activation_quantizers, entering
from lib.quantization.grid import load_results
from lib.quantization.models import fixed_batch

IMAGES = 100  # of each set that are looked at
NARROWEST = 2.0**-8  # of the real range: narrower ones all count as this, a range of one level
REASONS = {"clipped": "activations clipped", "wasted": "levels wasted", "gram": "Gram matrices"}
MEASURES = REASONS | {"fid": "Fréchet distance"}


def measure_reasons(out: Path, *, grid: Path, sets: dict[str, Path], real: Path, seed: int) -> None:
    """Write `reasons.csv`: a row for each network, calibration set and quantizer of activations.

    `grid` is the grid's folder, with the INT8 networks of the first draw by NNCF's default
    quantization; `sets` names the folders of SampleSets, or of one for each network, and networks
    of other sets are passed over; `real` is that of the real test images. Columns: see
    `network_reasons`.
    """
    results, _, _ = load_results(grid)
    main = of_way(results[results["status"] == "ok"])
    main = main[main["calibration_size"] == main["calibration_size"].max()]
    main = main[main["calibration_set"].isin(sets)]
    groups = main.groupby("model", sort=False)["calibration_set"].unique()
    size, parts = main["calibration_size"].max(), []
    for model, kinds in progress(list(groups.items()), "why", unit="network"):
        if REAL in kinds and len(kinds) > 1:
            stems = {kind: Cell(model, *MAIN, kind, int(size)).stem for kind in kinds}
            files = {kind: grid / "models" / f"{stem}.xml" for kind, stem in stems.items()}
            shown = {kind: _some(sets[kind], model, seed) for kind in kinds}
            found = network_reasons(files, shown, _some(real, model, seed))
            parts.append(found.assign(model=model))
    table = pd.concat(parts) if parts else pd.DataFrame(columns=["model", "calibration_set"])
    write_text(out / "reasons.csv", table.to_csv(index=False, float_format="%.6g"))


def _some(folder: Path, model: str, seed: int) -> np.ndarray:
    alone = (folder / RECORD).is_file()
    images = SampleSet.load(folder if alone else folder / model.removesuffix(UNFUSED)).images
    chosen = numpy_generator(seed, "reasons").permutation(len(images))[:IMAGES]
    return images[np.sort(chosen)]


def network_reasons(
    files: dict[str, Path], sets: dict[str, np.ndarray], real: np.ndarray
) -> pd.DataFrame:
    """Return a row for each calibration set and quantizer of one network.

    files: its INT8 networks by calibration set, real images among them; sets: images of each; real:
    real images that calibrated none, all `(n, 3, 32, 32) uint8`. `clipped`: share of the real
    activations outside the set's range; `wasted`: share of its levels beyond all real activations;
    `log2_width`: base-2 logarithm of its width over that by real images (1: one bit lost); `gram`:
    distance of the mean Gram matrices of the set's and of real activations, over the latter's norm.
    """
    model = read_ir(files[REAL])
    reference, probe, size = activation_quantizers(model), entering(model), fixed_batch(model)
    expected = activations(probe, batches(real, size or BATCH))
    rows = []
    for kind, file in files.items():
        quantizers, seen = (
            activation_quantizers(read_ir(file)),
            activations(probe, batches(sets[kind], size or BATCH)),
        )
        if [q.name for q in quantizers] != [q.name for q in reference]:
            raise StudyError(f"{file} and {files[REAL]} have other quantizers: make both again")
        for layer, (own, other) in enumerate(zip(quantizers, reference, strict=True)):
            row = {"calibration_set": kind, "layer": layer, "name": own.name}
            row |= range_faults(own, expected[layer]) | {"log2_width": log2_width(own, other)}
            wanted = expected[layer].gram
            apart = np.linalg.norm(seen[layer].gram - wanted)
            rows.append(row | {"gram": apart / max(np.linalg.norm(wanted), 1e-12)})
    return pd.DataFrame(rows)


def log2_width(own: Quantizer, real: Quantizer) -> float:
    """Return the mean over channels of log2 of a range's width over that by real images.

    Channels in which real images have no range do not count.
    """
    width, expected = np.broadcast_arrays(own.high - own.low, real.high - real.low)
    alive = expected > 0
    if not alive.any():
        return float("nan")
    ratio = width[alive].astype(float) / expected[alive]
    return float(np.log2(np.maximum(ratio, NARROWEST)).mean())


def reason_table(reasons: pd.DataFrame, services: pd.DataFrame) -> pd.DataFrame:
    """Join what the ranges do, means over layers, to what sets do to networks.

    `services` are rows of `service_table` for one way to quantize and one number of images; a row
    for each network and set. Real images, the reference, differ from themselves by 0.
    """
    keys = ["model", "calibration_set"]
    real = services["calibration_set"] == REAL
    services = services.assign(difference_pp=services["difference_pp"].mask(real, 0.0))
    means = reasons.groupby(keys, sort=False)[list(REASONS)].mean().reset_index()
    return services.merge(means, on=keys)


def prediction_table(joined: pd.DataFrame) -> pd.DataFrame:
    """Return how well each measure of a set ranks the harm that it does: Spearman's, by network.

    `joined`: as `reason_table` gives it, with the column `fid` where a Fréchet distance is known;
    real images are left out. 1: the sets' order is that of the harm in agreement with FP32.
    """
    others = joined[joined["calibration_set"] != REAL]
    measures = [name for name in MEASURES if name in others]
    rows = []
    for model, part in others.groupby("model", sort=False):
        row = {"model": model, "sets": len(part)}
        for name in measures:
            known = part[part[name].notna() & part["difference_pp"].notna()]
            varies = known[name].nunique() > 1 and known["difference_pp"].nunique() > 1
            harm = -known["difference_pp"]
            row[name] = float(spearmanr(known[name], harm).statistic) if varies else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=["model", "sets", *measures])


def prediction_words(table: pd.DataFrame, measure: str = "") -> str:
    """Say how well a measure of a `prediction_table` ranks sets by the harm that they do.

    Without a `measure`, that of the best in the middle network.
    """
    columns = [measure] if measure else [name for name in MEASURES if name in table]
    middle = table[columns].median().dropna()
    if middle.empty:
        return "Too few sets to tell what predicts the harm"
    best = middle.idxmax()
    worst = table.loc[table[best].idxmin()]
    words = f"{MEASURES[best]}: rank correlation with the harm {middle[best]:.2f} in the middle "
    words += f"network, {worst[best]:.2f} in {network_name(worst['model'])}"
    return words[0].upper() + words[1:]
