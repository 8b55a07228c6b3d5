"""A prepared set on disk: ArrayRecord shards of captioned images, and the files next to them."""
