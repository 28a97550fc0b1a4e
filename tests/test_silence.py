"""The study speaks to no one: its processes look up no names and leave no identifier."""

import os
import subprocess
import sys

from lib.common.files import ROOT

RECORDER = """
import os, socket, sys

def recorded(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect"):
        with open(os.environ["LOOKED_UP"], "a") as file:
            print(event, arguments, file=file)

sys.addaudithook(recorded)
"""
STAGE = """
import time
import torch
from lib.common.openvino import compile_model, convert
from lib.quantization.nncf import quiet_nncf

network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
model = convert(network, torch.zeros(1, 3, 32, 32))
with quiet_nncf() as nncf:
    data = nncf.Dataset([torch.zeros(1, 3, 32, 32).numpy()])
    compile_model(nncf.quantize(model, data, subset_size=1))
time.sleep(1)  # reports are sent by threads
"""


def run(tmp_path, stage, **environment):
    """Run a stage in a process of its own; return the names that it looked up."""
    (tmp_path / "sitecustomize.py").write_text(RECORDER)
    home = {"HOME": str(tmp_path), "LOOKED_UP": str(tmp_path / "looked_up")}
    home |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    inherited = {k: v for k, v in os.environ.items() if k not in ("CI", "NNCF_CI")}
    subprocess.run([sys.executable, "-c", stage], env=inherited | home | environment, check=True)
    record = tmp_path / "looked_up"
    return record.read_text() if record.exists() else ""


def test_quantization_looks_up_no_name_and_writes_nothing_home(tmp_path):
    assert run(tmp_path, STAGE) == ""
    assert not (tmp_path / "intel").exists()


def test_the_recorder_would_notice(tmp_path):
    assert "localhost" in run(tmp_path, "import socket; socket.getaddrinfo('localhost', 1)")
