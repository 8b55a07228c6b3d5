"""A prepared set on disk: ArrayRecord shards of captioned images, and what lies beside them."""
