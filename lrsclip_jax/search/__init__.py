"""An archive of imagery, searched by text: `lrsclip index` makes its index."""
