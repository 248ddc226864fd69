from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """name -> the folder where transformers saved the tiny model of that name."""
    folders = {}

    def folder(name):
        from tiny import tiny

        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name.replace(".", "-"))
            tiny(name).save_pretrained(folders[name])
        return folders[name]

    return folder
