"""Records of a corpus, and the Parquet files that hold them."""
