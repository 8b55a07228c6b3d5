"""The command that turns a source into a prepared set: `python -m lrsclip_jax.data.prepare`."""
