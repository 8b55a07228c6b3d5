"""Data: images, text and draws; prepared sets; the jobs of preparing them and of feeding training with them."""
