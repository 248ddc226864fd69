"""A GPU image with torch and Triton alone (`pytest -p bare_image`): what else the project needs cannot be imported."""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder

LACKS = {"pydantic", "pydantic_core", "hydra", "omegaconf", "deepspeed", "hypothesis", "wandb", "sentencepiece"}


class Lacking(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname.partition(".")[0] in LACKS | set(os.environ.get("BARE_IMAGE_LACKS", "").split()):
            raise ModuleNotFoundError(f"No module named {fullname!r} (bare_image)", name=fullname)


loaded = sorted(LACKS & sys.modules.keys())
if loaded:
    raise RuntimeError(f"bare_image comes too late: {', '.join(loaded)} is imported already")
sys.meta_path.insert(0, Lacking())
