"""The towers, their position tables, and the models by name."""
