"""Probes of the image tower alone: linear probe, k-NN and few-shot classification over saved embeddings."""
