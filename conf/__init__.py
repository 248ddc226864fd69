"""What an experiment is: Hydra groups in YAML, no logic."""
