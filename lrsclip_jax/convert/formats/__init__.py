"""What an export consists of besides the weights: configs, tokenizers, image processors, a model card."""
