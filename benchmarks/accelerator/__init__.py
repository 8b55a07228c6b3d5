"""Measures everything that an accelerator is wanted for: `python -m benchmarks.accelerator --minutes=8 --out=DIR`."""

from benchmarks import absent

absent.allow()  # before anything of the package is imported, in this process and in those that it starts
