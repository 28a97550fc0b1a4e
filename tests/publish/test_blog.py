"""The two posts: what is put in, what is refused, and how a browser shows them."""

import re
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, read_named, write_csv, write_json
from lib.figures.captions import caption_of, describe
from lib.figures.charts import bars
from lib.figures.images import image_rows
from lib.publish.blog import render as blog
from lib.publish.blog.numbers import check_typed, fill
from lib.publish.blog.render import PARTS, write_blog
from lib.study.params import read_profile
from lib.study.study import Study
from tests.publish.conftest import make_folder, put_notebook, write_texts

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--no-first-run"]
RUN = ROOT / "outputs" / "cifar10-cpu"


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
    for debris in ("Traceback", "{{", "}}", "[[", "nan"):
        assert debris not in text
    identities = [element["id"] for element in soup.select("[id]")]
    assert len(identities) == len(set(identities))
    for link in soup.select("a[href^='#']"):
        assert link["href"][1:] in identities
    return soup


def test_pages_stand_alone_with_described_figures(folder):
    for path in write_blog(folder):
        soup = check_page(path.read_text(encoding="utf-8"))
        assert soup.figcaption.get_text() == "Figure 1. A <caption>"
        assert len(soup.find_all("img")) == 2
        stills = soup.select("picture > source[media='(prefers-reduced-motion: reduce)']")
        assert len(stills) == len(soup.select("img[src^='data:image/gif']")) == 1
        assert soup.select_one("details.code").get_text().split() == (
            ["The", "code", "of", "this", "figure,", "from", "notebook", "06", "draw()"]
        )
        policy = soup.select_one("meta[http-equiv='Content-Security-Policy']")["content"]
        assert policy.startswith("default-src 'none'")
        for said in ("22 November 2026", "A processor", "openvino 2026.1", "Apache License"):
            assert said in soup.get_text()
        assert "subset_size" in soup.get_text() and soup.select_one("div.table th[scope=col]")


def test_numbers_are_those_of_the_tables(tmp_path, texts):
    found = [
        BeautifulSoup(write_blog(folder)[0].read_text(), "html.parser").find("main").get_text()
        for folder in (
            make_folder(tmp_path / "one"),
            make_folder(tmp_path / "two", student=400),
        )
    ]
    assert "Of three networks three\nare served with 300 images" in found[0]
    assert "Of three networks none\nare served" in found[1]


def test_what_the_tables_do_not_hold_is_refused(folder):
    assert fill('{{ value("numbers", "x", name="b") | number(1) }}', folder) == "2.0"
    assert fill('{{ value("numbers", "x", name="a") | percent(0) }}', folder) == "50 %"
    assert fill("{{ -0.25 | points(2) }} {{ 'fractal' | set }}", folder) == "−0.25 fractals"
    with pytest.raises(StudyError, match="numbers has 0 rows with {'name': 'c'}"):
        fill('{{ value("numbers", "x", name="c") }}', folder)
    with pytest.raises(StudyError, match="none.csv is missing"):
        fill('{{ value("none", "x") }}', folder)
    for wrong in (
        '{{ value("numbers", "y", name="a") }}',
        "{{ unknown }}",
        "{% if %}",
        "{{ [][0] + 1 }}",
    ):
        with pytest.raises(StudyError, match="text"):
            fill(wrong, folder, "text")


def test_numbers_typed_by_hand_are_refused(folder, texts):
    for fine in ("INT8 of CIFAR-10", "`-n 300`", "```\nx = 3\n```", "[a](b/06.md)", "![[06_x]]"):
        check_typed(f"# A\n{fine}\n{{{{ 3 }}}}", "part1.md")
    for typed in ("300 images", "of 97.3 %", "-0.5 points", "(3)", "a 4-bit network"):
        with pytest.raises(StudyError, match="part1.md, line 3: the number .* is typed by hand"):
            check_typed(f"# A\n`300`\n{typed}", "part1.md")
    write_texts(texts, part2="# A\nB\nIt took 12 minutes.\n")
    with pytest.raises(StudyError, match="part2.md, line 3: the number 12"):
        write_blog(folder)
    assert not (folder / "blog").exists()


def test_links_lead_to_the_other_part_and_to_the_study(folder):
    for path in write_blog(folder):
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        links = {link["href"] for link in soup.select("main a[href]")}
        assert links & {"part1.html", "part2.html"} and "../notebooks/06_comparison.ipynb" in str(
            soup
        )
        inside = [link for link in links if link.endswith(("LICENSE", ".ipynb"))]
        assert len(inside) == 2 and all((path.parent / link).is_file() for link in inside)


def test_same_run_makes_the_same_bytes(folder):
    before = [path.read_bytes() for path in write_blog(folder)]
    assert [path.read_bytes() for path in write_blog(folder)] == before


def test_figures_that_are_missing_or_of_another_run_are_refused(folder):
    manifest = read_json(folder / "manifest.json")
    for entry in ({"sha256": "of another run"}, None):
        manifest["reports"]["figures/06_chart.png"] = entry
        reports = {name: entry for name, entry in manifest["reports"].items() if entry}
        write_json(folder / "manifest.json", manifest | {"reports": reports})
        missing = "figure 06_chart is in no executed notebook.*--from 06"
        with pytest.raises(StudyError, match=missing):
            write_blog(folder)
    (folder / "notebooks" / "06_comparison.ipynb").write_text("{")
    with pytest.raises(StudyError, match="06_comparison.ipynb is no readable notebook"):
        write_blog(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(StudyError, match="holds no run: run the study first"):
        write_blog(folder)


@pytest.mark.parametrize("about", [{"alt": ""}, {"caption": " "}])
def test_figures_without_description_are_refused(folder, about):
    put_notebook(folder, **about)
    with pytest.raises(StudyError, match="figure 06_chart of 06_comparison has no description"):
        write_blog(folder)


def test_pictures_from_elsewhere_are_refused(folder, texts):
    write_texts(texts, part1="# A\nB\n![x](beside.png)\n")
    with pytest.raises(StudyError, match="beside.png"):
        write_blog(folder)


def test_large_pages_are_packed_with_losses_or_refused(folder, monkeypatch):
    lossless = max(path.stat().st_size for path in write_blog(folder))
    monkeypatch.setattr(blog, "LARGEST", lossless - 1000)
    assert max(path.stat().st_size for path in write_blog(folder)) < lossless - 1000
    monkeypatch.setattr(blog, "LARGEST", 10_000)
    with pytest.raises(StudyError, match="larger than"):
        write_blog(folder)


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
    with Image.open(study.folder / "figures" / "plot.png") as picture:
        assert picture.mode == "P"  # 256 colours at most
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
    folder = tmp_path_factory.mktemp("outputs")
    write_texts(folder / "texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blog, "TEXTS", folder / "texts")
        return write_blog(make_folder(folder / "small"))


def published():
    paths = [RUN / "blog" / f"{part}.html" for part in PARTS]
    if not paths[0].exists():
        pytest.skip("no pages are published: make blog writes them")
    return paths


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


def test_published_pages_are_whole_and_for_a_reader():
    for path in published():
        assert path.stat().st_size <= blog.LARGEST
        soup = check_page(path.read_text(encoding="utf-8"))
        for code in soup.select("details.code"):
            code.decompose()
        words = len(soup.find("main").get_text().split())
        assert 1200 <= words <= 1900
        assert 4 <= len(soup.select("main figure")) <= 6 and len(soup.select("main table")) <= 1


@pytest.mark.parametrize("part", PARTS)
def test_texts_of_the_posts_have_no_typed_number_and_fit_the_committed_run(part):
    text = (blog.TEMPLATE / f"{part}.md").read_text(encoding="utf-8")
    check_typed(text, part)
    tables = set(re.findall(r'(?:value|rows)\("(\w+)"', text)) | {"06_answers"}
    if missing := sorted(t for t in tables if not (RUN / "tables" / f"{t}.csv").is_file()):
        pytest.skip(f"the committed run lacks {', '.join(missing)}")
    assert "{{" not in fill(text, RUN, part)


def test_a_changed_table_changes_the_published_post(tmp_path):
    published()
    shutil.copytree(RUN, tmp_path / "run", ignore=shutil.ignore_patterns("artifacts", "work"))
    before = [path.read_text() for path in write_blog(tmp_path / "run")]
    path = tmp_path / "run" / "tables" / "06_answers.csv"
    table = read_named(path)
    table["difference_pp"] -= 1
    write_csv(path, table)
    after = [path.read_text() for path in write_blog(tmp_path / "run")]
    assert before[1] != after[1]
