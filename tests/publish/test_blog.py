"""The two pages: what is left out, what is refused, and how a browser shows them."""

import re
import shutil

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.progress import PlainProgress
from lib.figures.captions import caption_of, describe
from lib.figures.charts import bars
from lib.figures.images import image_rows
from lib.publish.blog import render as blog
from lib.publish.blog.render import NOISE, PARTS, Frame, write_blog
from lib.study.params import read_profile
from lib.study.study import Study
from tests.publish.conftest import NOTEBOOKS, code, make_folder, picture, put, table

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--no-first-run"]
PUBLISHED = ROOT / "outputs" / "digits" / "blog"


def check_page(html):
    """What holds for any page: alone, described, without debris."""
    soup = BeautifulSoup(html, "html.parser")
    assert not soup.select("script, iframe, object, embed, [onclick], [onload]")
    assert [link["href"] for link in soup.select("link")] == ["data:,"]
    assert "@import" not in html and not re.search(r"url\((?!data:)", html)
    sources = [e.get("src") or e.get("srcset") for e in soup.select("[src], [srcset]")]
    assert sources and all(source.startswith("data:image/") for source in sources)
    for image in soup.find_all("img"):
        assert len(image["alt"]) > 10
        assert image["width"] and image["height"]
        caption = image.find_parent("figure").figcaption.get_text()
        assert re.fullmatch(r"Figure \d+\. .{10,}", caption, re.DOTALL)
    assert not soup.select("details[open]")
    for header in soup.find_all("th"):
        assert header["scope"] in ("row", "col")
    text = soup.get_text()
    for debris in ("Traceback", "unchanged, reused", ": making", "NBVAL", "it/s"):
        assert debris not in text
    assert not re.search(r"\d%\|", text)
    identities = [element["id"] for element in soup.select("[id]")]
    assert len(identities) == len(set(identities))
    for link in soup.select("a[href^='#']"):
        assert link["href"][1:] in identities
    return soup


def test_pages_stand_alone_with_described_figures(folder):
    for path in write_blog(folder):
        soup = check_page(path.read_text(encoding="utf-8"))
        assert soup.find("img")["alt"] == 'What it <shows> "here"'
        assert soup.figcaption.get_text() == 'Figure 1. A "caption" & more'
        assert len(soup.find_all("img")) == 6
        stills = soup.select("picture > source[media='(prefers-reduced-motion: reduce)']")
        assert len(stills) == len(soup.select("img[src^='data:image/gif']")) == 3
        policy = soup.select_one("meta[http-equiv='Content-Security-Policy']")["content"]
        assert policy.startswith("default-src 'none'")


def test_run_is_told_and_its_noise_is_not(folder):
    first, second = (path.read_text(encoding="utf-8") for path in write_blog(folder))
    for said in ("22 November 2026", "A processor", "openvino 2026.1", "Apache License", "minute"):
        assert said in first and said in second
    for hidden in ("secret_default", "Run time", ">checked", ">Summary<", "none</th>"):
        assert hidden not in first + second
    soup = BeautifulSoup(first, "html.parser")
    assert "Some limits." in first and "Summary" not in soup.get_text()
    assert soup.find("pre", class_="words").get_text() == "12 images"
    assert " ".join(soup.select_one("details.code").get_text().split()) == "Code import numpy x = 1"
    assert soup.find(class_="question").get_text() == "Question: why?"
    assert len(soup.select("details.rows")) == 3


def test_links_lead_to_the_other_part_and_to_the_notebooks(folder):
    first, second = write_blog(folder)
    for path in (first, second):
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        links = {link["href"] for link in soup.select("a[href]")}
        assert {"part1.html", "part2.html"} & links
        for link in (link for link in links if not link.startswith("#")):
            target, _, anchor = link.partition("#")
            assert (path.parent / target).exists(), link
            if anchor:
                other = (path.parent / target).read_text(encoding="utf-8")
                assert f'id="{anchor}"' in other
        assert {f"../notebooks/{name}.ipynb" for name in Frame.read(path.stem).notebooks} <= links
    assert 'href="part2.html#06_comparison"' in first.read_text(encoding="utf-8")
    assert 'href="#06_comparison"' in second.read_text(encoding="utf-8")


def test_same_notebooks_make_the_same_bytes(folder):
    before = [path.read_bytes() for path in write_blog(folder)]
    assert [path.read_bytes() for path in write_blog(folder)] == before


def test_tables_can_be_read_aloud_and_their_numbers_lean_right(folder):
    frame = pd.DataFrame({"set": ["real"], "loss": [1.5]})
    put(folder, NOTEBOOKS[0], code("t", table(frame)))
    soup = BeautifulSoup(write_blog(folder)[0].read_text(encoding="utf-8"), "html.parser")
    boxes = soup.select("div.table")
    assert boxes[0].find("thead").find("th").get_text().strip() == "a_long_column_0"
    assert boxes[2].select_one("td.number").get_text().strip() == "1.50"
    assert [head.get("class") for head in boxes[2].select("th[scope=col]")] == [None, ["number"]]
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert not soup.select("table [style]")


def test_folded_cells_of_parameters_stay_out(folder):
    path = folder / "notebooks" / f"{NOTEBOOKS[0]}.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells[1].metadata["jupyter"] = {"source_hidden": True}
    nbformat.write(book, path)
    assert "secret_default" not in write_blog(folder)[0].read_text(encoding="utf-8")


def test_missing_failed_unexecuted_and_damaged_notebooks_are_refused(folder):
    path = folder / "notebooks" / "04_calibration_sets.ipynb"
    put(folder, path.stem, code("1 / 0", new_output("error", ename="ZeroDivisionError")))
    with pytest.raises(StudyError, match="04_.* holds an error .ZeroDivisionError.*--from 04"):
        write_blog(folder)
    nbformat.write(new_notebook(cells=[new_code_cell("x = 1")]), path)
    with pytest.raises(StudyError, match="04_.* was not executed.*lib run params/small.yaml"):
        write_blog(folder)
    path.write_text("{")
    with pytest.raises(StudyError, match="04_.* is no readable notebook"):
        write_blog(folder)
    path.unlink()
    with pytest.raises(StudyError, match="04_.* is missing: run `python -m lib run"):
        write_blog(folder)
    assert not (folder / "blog").exists()


@pytest.mark.parametrize("about", [{"alt": ""}, {"caption": " "}])
def test_pictures_without_description_are_refused(folder, about):
    put(folder, NOTEBOOKS[1], code("draw()", picture(**about)))
    with pytest.raises(StudyError, match=f"picture in {NOTEBOOKS[1]} has no description"):
        write_blog(folder)


def test_pictures_beside_the_notebook_are_refused(folder):
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("![x](beside.png)"), code("x = 1")]),
        folder / "notebooks" / f"{NOTEBOOKS[0]}.ipynb",
    )
    with pytest.raises(StudyError, match="beside.png"):
        write_blog(folder)


def test_large_pages_are_packed_with_losses_or_refused(folder, monkeypatch):
    lossless = max(path.stat().st_size for path in write_blog(folder))
    monkeypatch.setattr(blog, "LARGEST", lossless - 1000)
    assert max(path.stat().st_size for path in write_blog(folder)) < lossless - 1000
    monkeypatch.setattr(blog, "LARGEST", 10_000)
    with pytest.raises(StudyError, match="larger than"):
        write_blog(folder)


def test_lines_of_progress_are_known_as_noise(capsys, monkeypatch):
    monkeypatch.setattr("lib.common.progress.PAUSE", 0)
    bar = PlainProgress((), "classifier resnet20", 4000, "update", 0)
    bar.set_postfix_str("loss 0.5")
    bar.update(1200)
    bar.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "loss 0.5" in lines[0]
    lines += ["quantization: trying again what failed", "POT's environment: making /x, about 2 min"]
    assert all(NOISE.fullmatch(line) for line in lines), lines
    for kept in ("105 rows, 0 failed", "INT8 is 1.5 to 3.3 times as fast", "real: 12 images"):
        assert not NOISE.fullmatch(kept)


def test_captions_and_descriptions_come_from_the_figure():
    values = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0], "c": ["one", "two"]})
    figure = bars(values, "a", "b", "Bars of b", "the x axis", "b (points)", hue="c")
    assert caption_of(figure) == "Bars of b"
    text = describe(figure)
    for part in ("Chart: Bars of b", "b (points) against the x axis", "one, two"):
        assert part in text
    images = np.zeros((2, 3, 32, 32), np.uint8)
    text = describe(image_rows([images, images], ["real", "nearest\nreal"], "Rows"))
    assert text == "Pictures: Rows. From top to bottom: real, nearest real."
    bare, _ = plt.subplots()
    plt.close(bare)
    assert caption_of(bare) == "" and describe(bare) == "Chart."


def test_saved_figures_show_with_caption_and_description(tmp_path):
    values = read_profile(ROOT / "params" / "tiny.yaml") | {"output_dir": str(tmp_path)}
    study = Study.open("01_teacher_sampling", values)
    figure = image_rows([np.zeros((2, 3, 32, 32), np.uint8)], ["real"], "Two images")
    shown = study.save_figure("plot", figure, alt="Two black squares")
    data, metadata = DisplayFormatter().format(shown)
    assert metadata["image/png"] == {"caption": "Two images", "alt": "Two black squares"}
    assert "image/png" in data
    assert shown.data == (study.folder / "figures" / "plot.png").read_bytes()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    shown = study.save_animation("film", frames, caption="A film", alt="Red, then blue")
    _, metadata = DisplayFormatter().format(shown)
    assert metadata["image/gif"] == {"caption": "A film", "alt": "Red, then blue"}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return write_blog(make_folder(tmp_path_factory.mktemp("outputs") / "small"))


def published():
    if not (PUBLISHED / "part1.html").exists():
        pytest.skip("no pages are published: make blog writes them")
    return [PUBLISHED / f"{part}.html" for part in PARTS]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("which", ["synthetic", "published"])
def test_pages_in_a_browser(browser, synthetic, tmp_path, which, width, scheme):
    paths = synthetic if which == "synthetic" else published()
    size = {"width": width, "height": 844}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    page, asked, faults = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    for path in paths:
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        widths = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.width])")
        assert widths and all(natural > 0 and shown <= width for natural, shown in widths)
        text = page.inner_text("body")
        assert "Traceback" not in text and "%|" not in text
        assert page.locator("details[open]").count() == 0
        page.screenshot(path=tmp_path / f"{path.stem}-{width}-{scheme}.png", full_page=True)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == len(paths)
    assert faults == []
    context.close()


def test_reader_opens_code_enlarges_a_figure_and_goes_on_to_the_other_part(browser, synthetic):
    first, second = synthetic
    context = browser.new_context(viewport={"width": 390, "height": 844}, offline=True)
    page = context.new_page()
    page.goto(first.as_uri())
    page.locator("details.code summary").first.click()
    assert page.locator("details.code[open]").count() == 1
    image = page.locator("figure img").first
    small = image.bounding_box()["width"]
    page.locator("figure label").first.click()
    assert image.bounding_box()["width"] >= 900 > 390 > small
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("nav.parts a").first.click()
    page.wait_for_url(f"**/{second.name}")
    page.locator("nav.parts a").last.click()
    page.wait_for_url(f"**/{first.name}")
    context.close()


def test_published_pages_are_whole():
    for path in published():
        assert path.stat().st_size <= blog.LARGEST
        check_page(path.read_text(encoding="utf-8"))
