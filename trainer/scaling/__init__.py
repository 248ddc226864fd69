"""Scale experiments: ladders of sizes, laws through their losses, and comparisons at equal compute."""
