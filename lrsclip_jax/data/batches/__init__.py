"""Prepared records in, batches for training out."""
