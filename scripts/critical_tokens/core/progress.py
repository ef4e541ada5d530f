"""Progress lines on standard error, with an estimate of the remaining time."""

from __future__ import annotations

import sys
import time


class Progress:
    """Prints how much of a piece of work is done, and how long the rest will take.

    what: the name of the work.
    total: the number of units of the work.
    unit: the name of a unit, in the plural.
    interval: the shortest time between two lines (seconds).
    """

    def __init__(self, what: str, total: int, unit: str, interval: float = 10.0) -> None:
        self._what, self._total, self._unit, self._interval = what, total, unit, interval
        self._start = self._said = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Report that `done` units of the total are finished; `note` ends the line."""
        now = time.monotonic()
        if now - self._said < self._interval or done <= 0:
            return
        self._said = now
        left = (now - self._start) * max(self._total - done, 0) / done
        share = 100 * done / max(self._total, 1)
        print(
            f"{self._what}: {done}/{self._total} {self._unit} ({share:.0f} %), about {_duration(left)} left{note}",
            file=sys.stderr,
            flush=True,
        )

    def update_of(self, done: int, total: int) -> None:
        """Report that `done` of `total` units are finished; `total` may change at every call."""
        self._total = total
        self.update(done)

    def close(self) -> None:
        """Report the total and the time that the work took."""
        took = _duration(time.monotonic() - self._start)
        print(f"{self._what}: {self._total} {self._unit} in {took}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
