"""Progress: a bar while a person watches, at most ten plain lines in batch runs."""

import os
import sys
import time
from collections.abc import Iterable, Iterator

from tqdm.auto import tqdm

PAUSE = 15  # seconds between lines at least
SIGN_OF_LIFE = 60  # seconds to the first line at most


def person_watches() -> bool:
    """Tell whether this process runs in a Jupyter session or on a terminal.

    Jupyter servers name the session in `JPY_SESSION_NAME`; papermill and nbval do not.
    """
    return "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()


def progress(
    items: Iterable = (), desc: str = "", total: int | None = None, unit="it", initial: int = 0
):
    """Iterate over `items` and show how far it got; `set_postfix_str` adds a text.

    `total` counts the whole work, of which `initial` was done before. Without items,
    `update(n)` says that n more steps are done.
    """
    if person_watches():
        return tqdm(items, desc=desc, total=total, unit=unit, initial=initial)
    return PlainProgress(items, desc, total, unit, initial)


class PlainProgress:
    """Prints a line after a minute, at each tenth and at the end; none for what is done at once.

    Without a total, lines come after 1, 2, 4, 8 … minutes.
    """

    def __init__(self, items: Iterable, desc: str, total: int | None, unit: str, initial: int = 0):
        self.items, self.desc, self.unit = items, desc, unit
        self.total = len(items) if total is None and hasattr(items, "__len__") else total
        self.done = self.initial = initial
        self.text = ""
        self.lines = 0  # printed, or passed over because they came too soon
        self.started = self.last = time.monotonic()

    def set_postfix_str(self, text: str) -> None:
        """Set the text at the end of the next line."""
        self.text = text

    def __iter__(self) -> Iterator:
        self.started = self.last = time.monotonic()
        for item in self.items:
            yield item
            self.update(1)
        if self.lines:
            self.close()

    def update(self, n: int) -> None:
        """Count `n` more steps; print a line if one is due."""
        self.done += n
        now = time.monotonic()
        due = self._due(now - self.started)
        if due > self.lines and now - self.last >= PAUSE:
            self.lines, self.last = due, now
            print(self.line(now - self.started), flush=True)

    def _due(self, seconds: float) -> int:
        """Return how many lines may have been printed after `seconds` of work."""
        minutes = int(seconds / SIGN_OF_LIFE)
        if self.total:
            tenths = 10 * (self.done - self.initial) // max(self.total - self.initial, 1)
            return min(max(tenths, minutes > 0), 9)
        return min(minutes.bit_length(), 9)

    def reset(self) -> None:
        """Forget the steps that were counted."""
        self.done = self.initial

    def close(self) -> None:
        """Print how long the steps took."""
        seconds, steps = time.monotonic() - self.started, self.done - self.initial
        if steps:
            rate = f"{steps / max(seconds, 1e-9):.3g}/s"
            print(f"{self.desc}: {steps:,} {self.unit} in {seconds:.0f} s, {rate}", flush=True)

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
