"""Tables for readers: words, digits, nothing left to chance."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.formatters import DisplayFormatter
from nbconvert.filters import markdown2html

from lib.common.errors import StudyError
from lib.figures.tables import escaped, show

TABLE = pd.DataFrame(
    {
        "calibration_set": ["real", "<b>grey</b>"],
        "images": [1797, 30],
        "top1": [0.9312, None],
        "drop": [-12.345, 0.5],
        "chosen": [True, False],
    }
)


def test_words_order_digits_and_no_row_numbers():
    words = {"images": "images read", "calibration_set": "set", "drop": "drop in points"}
    lines = str(show(TABLE, words)).splitlines()
    assert lines[0].split() == ["images", "read", "set", "drop", "in", "points"]
    assert lines[2].split() == ["1,797", "real", "-12.3"]
    assert lines[3].split() == ["30", "<b>grey</b>", "0.5"]


def test_formats_and_what_is_missing():
    shown = show(TABLE, {"top1": "top-1", "chosen": "chosen"}, {"top1": "{:.1%}"})
    assert [line.split() for line in str(shown).splitlines()[2:]] == [["93.1%", "yes"], ["–", "no"]]
    small = pd.DataFrame({"loss": [0.00123456, 0.0001]})
    assert str(show(small)).split()[2:] == ["0.00123", "0.00010"]
    assert str(show(small, decimals=4)).split()[2:] == ["0.0012", "0.0001"]


def test_a_named_index_is_shown():
    lines = str(show(TABLE.set_index("calibration_set")[["images"]])).splitlines()
    assert lines[0].split() == ["calibration_set", "images"]
    assert lines[2].split() == ["real", "1,797"]


def test_outputs_of_a_notebook():
    data, _ = DisplayFormatter().format(show(TABLE))
    assert data == DisplayFormatter().format(show(TABLE))[0]
    assert set(data) == {"text/html", "text/plain"} and data["text/plain"] == str(show(TABLE))
    assert "&lt;b&gt;grey" in data["text/html"] and "<td>" not in data["text/html"]
    assert "mathjax_ignore" in data["text/html"]


def test_marks_of_markdown_and_formulas_are_text():
    text = "4 deer & <b>bold</b> $x$ *y* [z](u) 1_2 #3 `4` 5|6"
    assert BeautifulSoup(markdown2html(escaped(text)), "html.parser").get_text().strip() == text
    assert "\\$" in escaped(text)


def test_empty_tables_and_unknown_columns():
    assert DisplayFormatter().format(show(TABLE[:0], empty="No cell failed."))[0] == {
        "text/plain": "No cell failed.",
        "text/markdown": "No cell failed.",
    }
    with pytest.raises(StudyError, match="no rows to show"):
        show(TABLE[:0])
    with pytest.raises(StudyError, match="no column 'fid': it has calibration_set"):
        show(TABLE, {"fid": "FID"})
