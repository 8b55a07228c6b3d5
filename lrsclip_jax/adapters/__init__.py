"""Adapters as they are kept: apart from their base in checkpoints, and in the files of PEFT."""
