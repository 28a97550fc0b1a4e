"""Tests that run side by side take one thread each; set before anything imports torch."""

import os

import pytest

from lib.common import machine

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def bfloat16_is_tested_on_every_processor():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "has_bfloat16", lambda: True)
        yield
