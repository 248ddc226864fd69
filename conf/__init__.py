"""What an experiment is: Hydra groups in YAML, no logic."""

__distribution__ = "isoflop"
