"""The best learning rate and batch over parameters and tokens: from a sweep to a ladder's rule."""
