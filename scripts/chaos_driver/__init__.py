"""Hits a run from outside, as a user starts it, and looks whether it ends where an undisturbed one does."""
