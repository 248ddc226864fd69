"""From (config, resources) to processes."""

from __future__ import annotations

from launch.local import run_local

__all__ = ["run_local"]
