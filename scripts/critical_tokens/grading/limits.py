"""Limits of the worker processes that run math_verify.

They have their own module so that `sizing`, which plans resources, need not import the grader.
"""

SECONDS = 5.0
"""Processor time per answer, in seconds."""

MEMORY_GB = 2.0
"""Memory limit of a worker, in GiB."""

IDLE_GB = 0.15
"""Memory of a worker after it has loaded the library (0.12 GB were measured)."""

WORKERS = 8
"""Largest number of workers of a program; it starts fewer where it has fewer cores."""
