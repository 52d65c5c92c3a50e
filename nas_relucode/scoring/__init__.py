"""A network's accuracy beside its indices, after training, at initialisation, or after each epoch."""
