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
        seconds, steps = now - self.started, self.done - self.initial
        minutes = int(seconds / SIGN_OF_LIFE)
        due = minutes.bit_length()
        if self.total:
            due = max(10 * steps // max(self.total - self.initial, 1), minutes > 0)
        if (due := min(due, 9)) <= self.lines or now - self.last < PAUSE:
            return
        self.lines, self.last = due, now
        rate = steps / max(seconds, 1e-9)
        share = f"/{self.total:,}" if self.total else ""
        parts = [f"{self.desc}: {self.done:,}{share} {self.unit}", f"{rate:.3g}/s"]
        if self.total:
            parts.append(f"{(self.total - self.done) / max(rate, 1e-9):.0f} s left")
        print(", ".join([*parts, self.text] if self.text else parts), flush=True)

    def reset(self) -> None:
        """Forget the steps that were counted."""
        self.done = self.initial

    def close(self) -> None:
        """Print how long the steps took."""
        seconds, steps = time.monotonic() - self.started, self.done - self.initial
        if steps:
            rate = f"{steps / max(seconds, 1e-9):.3g}/s"
            print(f"{self.desc}: {steps:,} {self.unit} in {seconds:.0f} s, {rate}", flush=True)
