"""Evaluation: pure functions over saved embeddings, their tables and pages. It knows nothing of lrsclip_jax."""

from eval import interrupts

interrupts.heed_as_program()
