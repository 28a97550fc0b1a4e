"""What a benchmark of a training prints and writes: its table and what it was measured on."""

import os

import pandas as pd
import torch

from lib.common.files import ROOT, write_text
from lib.common.machine import describe_environment


def report(table: pd.DataFrame, name: str, turns: int) -> None:
    """Print the table and the machine's facts; write both into `outputs/bench/<name>.csv`."""
    about = describe_environment()
    facts = {"cpu": about["cpu"], "cpu_flags": " ".join(about["cpu_flags"])}
    facts |= {"threads": torch.get_num_threads(), "torch": about["versions"]["torch"]}
    facts |= {"wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"), "turns": turns}
    print(table.to_string(index=False, float_format="{:.3g}".format))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    write_text(ROOT / f"outputs/bench/{name}.csv", table.assign(**facts).to_csv(index=False))
