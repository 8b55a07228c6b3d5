"""A job before it runs: what the compiler makes of it, what it needs, and how fast it can be."""
