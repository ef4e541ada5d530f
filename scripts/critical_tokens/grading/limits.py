"""Limits of the worker processes that run math_verify, for `verify`, and for `sizing`, which must
do without the library.
"""

SECONDS = 5.0
"""Processor time of an answer."""

MEMORY_GB = 2.0
"""Memory of a worker."""

IDLE_GB = 0.15
"""Memory that a worker takes once it has loaded the library (0.12 GB measured)."""

WORKERS = 8
"""Workers of a program at most; fewer where it has fewer cores."""
