"""A profile that was run, in small, and the texts of two posts about it."""

import io
from base64 import b64encode
from hashlib import sha256

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.common.files import write_csv, write_json
from lib.comparison.answer import answers
from lib.comparison.service import service_table
from lib.publish.blog import render
from tests.comparison.conftest import EQUAL, study

MANIFEST = {
    "profile": "small",
    "parameters": {"data": "digits", "seed": 1, "device": "cpu", "quantization_subset_size": 300},
    "environment": {
        "cpu": "A processor",
        "cpu_flags": ["avx2"],
        "git_revision": "0123456789abcdef",
        "python": "3.11.7",
        "versions": {"torch": "2.0", "openvino": "2026.1"},
    },
    "reports": {},
    "measured_reports": {},
}
TEXT = """# Part {number}, a title
What stands below it, in INT8.
Of {{{{ answer("student").networks | count }}}} networks {{{{ answer("student").served | count }}}}
are served with {{{{ p.quantization_subset_size }}}} images. See [the other](part{other}.html),
[notebook](notebooks/06_comparison.ipynb) and [the licence](LICENSE).

# What came out

![[06_chart]]

## Below

{{{{ rule }}}}

```python
subset_size = 300
```

![[06_film]]
"""


def encoded(frames):
    rng = np.random.default_rng(frames)
    images = [
        Image.fromarray(rng.integers(0, 255, (40, 900, 3), dtype=np.uint8)) for _ in range(frames)
    ]
    buffer, more = io.BytesIO(), {"save_all": True, "append_images": images[1:]}
    kind, given = ("png", {}) if frames == 1 else ("gif", more)
    images[0].save(buffer, kind, **given)
    return buffer.getvalue()


def draw(frames=1, **about):
    """Return the output that shows a figure."""
    kind = "png" if frames == 1 else "gif"
    about = {"caption": "A <caption>", "alt": "x" * 20} | about
    data = {f"image/{kind}": b64encode(encoded(frames)).decode()}
    return new_output("display_data", data, metadata={f"image/{kind}": about})


def put_notebook(folder, **about):
    """Write the executed notebook 06 with two figures."""
    cells = [
        new_markdown_cell("# 06"),
        new_code_cell("draw()", outputs=[draw(**about)], execution_count=1),
        new_code_cell("film()", outputs=[draw(3)], execution_count=2),
    ]
    end = {"papermill": {"end_time": "2026-11-22T14:52:12.370247+00:00"}}
    (folder / "notebooks").mkdir(exist_ok=True)
    path = folder / "notebooks" / "06_comparison.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=end), path)


def make_folder(folder, **changes):
    """Write the output folder of a profile."""
    services = service_table(*study(EQUAL | changes), resamples=200)
    write_csv(folder / "tables" / "06_answers.csv", answers(services))
    write_csv(folder / "tables" / "numbers.csv", pd.DataFrame({"name": ["a", "b"], "x": [0.5, 2]}))
    drawn = {"06_chart.png": encoded(1), "06_film.gif": encoded(3)}
    hashes = {f"figures/{k}": {"sha256": sha256(data).hexdigest()} for k, data in drawn.items()}
    write_json(folder / "manifest.json", MANIFEST | {"reports": hashes})
    put_notebook(folder)
    return folder


def write_texts(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for number, other in ((1, 2), (2, 1)):
        text = changed.get(f"part{number}", TEXT.format(number="A" * number, other=other))
        (folder / f"part{number}.md").write_text(text)


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """The folder of the texts of two small posts."""
    write_texts(tmp_path / "texts")
    monkeypatch.setattr(render, "TEXTS", tmp_path / "texts")
    return tmp_path / "texts"


@pytest.fixture
def folder(tmp_path, texts):
    return make_folder(tmp_path / "outputs" / "small")
