"""The command `lrsclip convert`: checkpoints of PyTorch in, out, and side by side."""
