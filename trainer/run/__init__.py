"""A run from its command to its report."""
