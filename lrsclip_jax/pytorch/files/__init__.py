"""Files of weights: read tensor by tensor without running anything in them, written whole or not at all."""
