"""What importing DeepSpeed brings along."""

from __future__ import annotations

import subprocess
import sys


def test_deepspeed_loads_no_mlflow_and_leaves_it_to_others() -> None:
    program = (
        "import sys; from trainer.training.engine import import_deepspeed; import_deepspeed('cpu')\n"
        "assert 'deepspeed' in sys.modules and not [one for one in sys.modules if one.startswith('mlflow')]\n"
        "import importlib.util; importlib.util.find_spec('mlflow')\n"  # raises where a None was left behind
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
