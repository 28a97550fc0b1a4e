"""Progress: a bar while a person watches, plain lines in batch runs."""

import os
import sys
import time
from collections.abc import Iterable, Iterator

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = (15, 300)  # in the first minutes, and at most


def person_watches() -> bool:
    """Tell whether this process runs in a Jupyter session or on a terminal.

    Jupyter servers name the session in `JPY_SESSION_NAME`; papermill and nbval do not.
    """
    return "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()


def progress(
    items: Iterable = (), desc: str = "", total: int | None = None, unit="it", initial: int = 0
):
    """Iterate over `items` and show how far it got; `set_postfix_str` adds a text.

    `total` counts all steps, `initial` those that an earlier run has already done. Without items,
    `update(n)` says that n more steps are done.
    """
    if person_watches():
        return tqdm(items, desc=desc, total=total, unit=unit, initial=initial)
    return PlainProgress(items, desc, total, unit, initial)


def pause(seconds: float) -> float:
    """Return how many seconds after the last line the next one is due, `seconds` into the work."""
    shortest, longest = SECONDS_BETWEEN_LINES
    return min(max(shortest, seconds / 10), longest)


class PlainProgress:
    """Print lines, every 15 s at first, seldom later: saved notebooks show no bar stuck half-way.

    Hours of work leave some fifty lines in a notebook.
    """

    def __init__(self, items: Iterable, desc: str, total: int | None, unit: str, initial: int):
        self.items, self.desc, self.unit = items, desc, unit
        self.total = len(items) if total is None and hasattr(items, "__len__") else total
        self.done = self.initial = initial
        self.text = ""
        self.started = self.last = time.monotonic()

    def set_postfix_str(self, text: str) -> None:
        """Set the text at the end of the next line."""
        self.text = text

    def __iter__(self) -> Iterator:
        self.started = self.last = time.monotonic()
        for item in self.items:
            yield item
            self.update(1)

    def update(self, n: int) -> None:
        """Count `n` more steps; print a line if the last one was long ago."""
        self.done += n
        now = time.monotonic()
        if now - self.last >= pause(now - self.started):
            self.last = now
            print(self.line(now - self.started), flush=True)

    def close(self) -> None:
        """Print how long the steps took."""
        seconds, steps = time.monotonic() - self.started, self.done - self.initial
        if steps:
            rate = steps / max(seconds, 1e-9)
            print(
                f"{self.desc}: {steps:,} {self.unit} in {seconds:.0f} s, {rate:.3g}/s", flush=True
            )

    def line(self, seconds: float) -> str:
        """Return the line after `seconds` of work."""
        rate = (self.done - self.initial) / max(seconds, 1e-9)
        text = f"{self.desc}: {self.done:,}"
        if self.total:
            left = (self.total - self.done) / max(rate, 1e-9)
            text += f"/{self.total:,} {self.unit}, {rate:.3g}/s, {left:.0f} s left"
        else:
            text += f" {self.unit}, {rate:.3g}/s"
        return text + (f", {self.text}" if self.text else "")
