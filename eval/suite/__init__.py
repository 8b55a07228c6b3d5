"""The suite: everything that a folder of embedding sets allows, in one command and one report."""
