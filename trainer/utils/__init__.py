"""Files, errors and progress: what every package may use."""
