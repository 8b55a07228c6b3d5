"""Published facts as data: class names, templates, tables."""
