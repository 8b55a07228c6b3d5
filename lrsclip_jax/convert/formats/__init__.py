"""Files of an export: weights, configs, tokenizers, image processors, a model card."""
