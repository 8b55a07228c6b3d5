"""`python -m lrsclip_jax COMMAND …`: the command `lrsclip` where its script is not on the PATH."""

from __future__ import annotations

from lrsclip_jax import cli
from lrsclip_jax.errors import cli as exit_with

if __name__ == "__main__":
    exit_with(lambda: cli.main(prog="python -m lrsclip_jax"))
