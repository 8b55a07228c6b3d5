"""The layouts of the PyTorch families: who recognises a checkpoint, reads it, and says where a parameter stands."""
