"""Executed notebooks to render: small ones that hold all that a real one may."""

import io
from base64 import b64encode

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.common.files import write_json
from lib.figures.tables import show
from lib.publish.blog.render import PARTS, Frame

NOTEBOOKS = [name for part in PARTS for name in Frame.read(part).notebooks]
MANIFEST = {
    "profile": "small",
    "parameters": {"data": "digits", "seed": 1, "device": "cpu"},
    "environment": {
        "cpu": "A processor",
        "cpu_flags": ["avx2"],
        "git_revision": "0123456789abcdef",
        "python": "3.11.7",
        "versions": {"torch": "2.0", "openvino": "2026.1"},
    },
}


def encoded(kind, frames=1):
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 255, (40, 900, 3), dtype=np.uint8)) for _ in range(frames)
    ]
    buffer = io.BytesIO()
    images[0].save(
        buffer, kind, **({"save_all": True, "append_images": images[1:]} if frames > 1 else {})
    )
    return b64encode(buffer.getvalue()).decode()


def picture(kind="png", **about):
    about = {"caption": 'A "caption" & more', "alt": 'What it <shows> "here"'} | about
    data = {f"image/{kind}": encoded(kind, 3 if kind == "gif" else 1)}
    return new_output("display_data", data, metadata={f"image/{kind}": about})


def table(frame):
    return new_output("display_data", show(frame)._repr_mimebundle_())


def code(source, *outputs, tags=()):
    return new_code_cell(source, outputs=list(outputs), execution_count=1, metadata={"tags": tags})


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def notebook(name, *more):
    wide = pd.DataFrame(np.ones((3, 30)), columns=[f"a_long_column_{k}" for k in range(30)])
    cells = [
        new_markdown_cell(
            f"# {name[:2]} · About {name}\n\n**Question: why?**\n\n**Run time** long. **Reads** it."
        ),
        code("secret_default = 1", tags=["parameters"]),
        code("secret_default = 2", tags=["injected-parameters"]),
        code("import numpy"),
        code("x = 1", stream("thing: making\n12 images\nthing: unchanged, reused\n")),
        new_markdown_cell(
            "## Results\n\nSee [notebook 06](06_comparison.ipynb), [here](#figure-1) and "
            "[the licence](../LICENSE)."
        ),
        code("draw()", picture(), stream("100%|█████| 3/3 [00:01<00:00]", "stderr")),
        code("film()", picture("gif")),
        code("listed", table(wide), table(pd.DataFrame({"x": range(40)}))),
        code("failed", new_output("display_data", {"text/html": "<table></table>"})),
        *more,
        new_markdown_cell("Some limits.\n\n## Summary"),
        code("# NBVAL_CHECK_OUTPUT\nprint(1)", stream("checked")),
    ]
    end = {"papermill": {"end_time": "2026-11-22T14:52:12.370247+00:00"}}
    return new_notebook(cells=cells, metadata=end)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "outputs" / "small")


def make_folder(folder):
    (folder / "notebooks").mkdir(parents=True)
    write_json(folder / "manifest.json", MANIFEST)
    for name in NOTEBOOKS:
        put(folder, name)
    return folder


def put(folder, name, *more):
    nbformat.write(notebook(name, *more), folder / "notebooks" / f"{name}.ipynb")
