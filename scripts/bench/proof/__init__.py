"""The proof on a GPU, `scripts/bench/gpu --minutes 8`: plan.py says what runs in which order, conductor.py runs it."""
