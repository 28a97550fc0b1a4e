"""Widgets around the image generator: controls, a button and what came out, in three panels."""

import logging
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from secrets import randbelow

import ipywidgets as widgets
from markupsafe import Markup

from lib.app.generator import (
    CONFIG,
    MAX_PER_CLASS,
    MAX_STEPS,
    ImageGenerator,
    ImagesRequest,
    PathRequest,
)
from lib.app.results import Result, compare_models, make_images, make_path
from lib.common.errors import StudyError
from lib.common.files import read_json

STYLE = Path(__file__).with_name("generator.css")
STATUS = Markup('<p class="ig-status" role="status">{}</p>')  # screen readers announce it
ALERT = Markup('<p class="ig-alert" role="alert">{}</p>')
LINK = Markup('<a class="ig-download" download="{}" href="data:{};base64,{}">{}</a>')
LINKS = {
    ".png": ("Save as one PNG", "image/png"),
    ".zip": ("Save as ZIP (class folders, latents)", "application/zip"),
}
BROWSED = 10  # classes shown at the start


def generator_page(folders: list[Path], seed: int = 1) -> widgets.Widget:
    """Return the interface to the networks of several folders, with a choice of the data.

    Each folder is as `ImageGenerator` reads it; the first is shown, others are loaded when chosen.
    """
    names = [str(read_json(folder / CONFIG)["data"]) for folder in folders]
    menu = widgets.Dropdown(options=list(zip(names, folders, strict=True)), description="Images of")
    place, made = widgets.VBox(), {}

    def choose(_: object = None) -> None:
        if menu.value not in made:
            made[menu.value] = generator_widgets(ImageGenerator(menu.value), seed)
            place.children = list(made.values())
        for folder, one in made.items():
            one.layout.display = "" if folder == menu.value else "none"

    menu.observe(choose, "value")
    choose()
    if len(folders) == 1:
        return place
    return widgets.VBox([widgets.Box([menu]).add_class("ig-data"), place])


def generator_widgets(generator: ImageGenerator, seed: int = 1) -> widgets.Widget:
    """Return the whole interface; its first panel already holds images."""
    panels = {
        "Images": images_panel(generator, seed),
        "Interpolation": path_panel(generator, seed),
        "Networks": compare_panel(generator, seed),
    }
    choice = widgets.ToggleButtons(options=list(panels), layout=widgets.Layout(width="auto"))

    def show(_: object = None) -> None:
        for name, panel in panels.items():
            panel.box.layout.display = "" if name == choice.value else "none"
        if not panels[choice.value].page.value:
            panels[choice.value].run()

    choice.observe(show, "value")
    show()
    style = widgets.HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
    boxes = [panel.box for panel in panels.values()]
    return widgets.VBox([style, choice.add_class("ig-modes"), *boxes]).add_class("ig")


class Panel:
    """Controls at the side, and beside them what `work` makes of their values.

    `work` reads the controls and returns a `Result`; its `StudyError`s are shown. While it runs
    the button says so and takes no clicks.
    """

    def __init__(self, controls: list[widgets.Widget], action: str, work: Callable[[], Result]):
        self.work, self.action = work, action
        self.button = widgets.Button(description=action, button_style="primary")
        self.message, self.links, self.page = (widgets.HTML() for _ in range(3))
        side = widgets.VBox([*controls, self.button]).add_class("ig-controls")
        output = widgets.VBox([self.message, self.links, self.page]).add_class("ig-output")
        self.box = widgets.Box([side, output]).add_class("ig-panel")
        self.button.on_click(lambda _: self.run())

    def run(self) -> None:
        """Compute and show; whatever goes wrong is one line for the person."""
        self.button.disabled, self.button.description = True, "Working…"
        self.message.value = STATUS.format("Working…")
        self.page.add_class("ig-busy")
        try:
            result, links = self.work(), Markup()
            for name, content in result.files.items():
                text, kind = LINKS[Path(name).suffix]
                links += LINK.format(name, kind, b64encode(content).decode(), text)
            self.page.value = result.page
            self.links.value = Markup('<p class="ig-links">{}</p>').format(links)
            self.message.value = STATUS.format(result.words)
        except StudyError as error:
            self.message.value = ALERT.format(error)
        except Exception:
            logging.getLogger(__name__).exception("the request failed")
            self.message.value = ALERT.format("This did not work. Try again, or reload the page.")
        finally:
            self.page.remove_class("ig-busy")
            self.button.disabled, self.button.description = False, self.action


def images_panel(generator: ImageGenerator, seed: int) -> Panel:
    """Return the panel that makes images of the classes chosen."""
    boxes = [
        widgets.Checkbox(value=label < BROWSED, description=name, indent=False)
        for label, name in enumerate(generator.class_names)
    ]
    fields, values = drawing_fields(f"Images a class (1–{MAX_PER_CLASS})", 12, seed)

    def work() -> Result:
        chosen = tuple(label for label, box in enumerate(boxes) if box.value)
        return make_images(generator, ImagesRequest(chosen, *values()))

    def choose(value: bool) -> None:
        for box in boxes:
            box.value = value

    heading = widgets.HTML('<span class="ig-heading">Classes</span>')
    chooser = widgets.Box(boxes).add_class("ig-classes")
    some = small_buttons({"All": lambda: choose(True), "None": lambda: choose(False)})
    return Panel([heading, chooser, some, *fields], "Generate", work)


def path_panel(generator: ImageGenerator, seed: int) -> Panel:
    """Return the panel that goes from one class and latent to another."""
    first, last = class_menu("First class", generator, 0), class_menu("Last class", generator, -1)
    seeds = (
        widgets.IntText(value=seed, description="First seed"),
        widgets.IntText(value=seed + 1, description="Last seed"),
    )
    steps = widgets.IntText(value=10, description=f"Steps (2–{MAX_STEPS})")
    truncation = truncation_field()

    def work() -> Result:
        labels, ends = (first.value, last.value), (seeds[0].value, seeds[1].value)
        return make_path(generator, PathRequest(labels, ends, steps.value, truncation.value))

    fields = [first, seeds[0], last, seeds[1], steps, truncation]
    return Panel(fields, "Interpolate", work)


def compare_panel(generator: ImageGenerator, seed: int) -> Panel:
    """Return the panel that shows every network's images of the same latents."""
    label = class_menu("Class", generator, 0)
    fields, values = drawing_fields(f"Images (1–{MAX_PER_CLASS})", 24, seed)

    def work() -> Result:
        return compare_models(generator, ImagesRequest((label.value,), *values()))

    return Panel([label, *fields], "Compare", work)


def drawing_fields(
    name: str, n: int, seed: int
) -> tuple[list[widgets.Widget], Callable[[], tuple[int, int, float]]]:
    """Return fields for a number of images, seed and truncation, and what reads their values.

    Ranges are checked when the values are used.
    """
    count = widgets.IntText(value=n, description=name)
    number = widgets.IntText(value=seed, description="Seed")
    truncation = truncation_field()
    another = {"Another seed": lambda: number.set_trait("value", randbelow(10_000))}
    fields = [count, number, small_buttons(another), truncation]
    return fields, lambda: (count.value, number.value, truncation.value)


def truncation_field() -> widgets.FloatText:
    """Return the field for the truncation."""
    tip = "Lower: more typical of the class and less varied; 1 is none"
    return widgets.FloatText(value=1.0, step=0.1, description="Truncation (0–1)", tooltip=tip)


def class_menu(name: str, generator: ImageGenerator, label: int) -> widgets.Dropdown:
    """Return a menu of the classes whose value is the label."""
    options = [(text, label) for label, text in enumerate(generator.class_names)]
    return widgets.Dropdown(options=options, value=options[label][1], description=name)


def small_buttons(actions: dict[str, Callable[[], None]]) -> widgets.Box:
    """Return a row of buttons, each with what it does."""
    buttons = [widgets.Button(description=text) for text in actions]
    for button, action in zip(buttons, actions.values(), strict=True):
        button.on_click(lambda _, action=action: action())
    return widgets.Box(buttons).add_class("ig-small")
