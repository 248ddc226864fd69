"""Every description names an implementation that is there, and takes part in no import of torch or numpy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from launch import launcher_of
from trainer.descriptions.launchers import LAUNCHERS
from trainer.descriptions.registry import Registry, imported
from trainer.descriptions.trackers import TRACKERS, TrackerDescription
from trainer.plugins.kinds import KINDS
from trainer.utils.errors import UserError

REGISTRIES = [registry for kind, registry in KINDS.items() if kind != "hooks"]  # of which the package has none


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_it_is_there(registry: Registry[Any]) -> None:
    assert len(registry) > 0
    for name, description in registry.items():
        assert callable(registry.implementation(name)), name
        assert description.help


def test_what_else_a_tracker_names() -> None:
    for tracker in TRACKERS.values():
        for place in filter(None, (tracker.check, tracker.publish)):
            assert callable(imported(place))
        assert tracker.off is None or tracker.off[0] in tracker.Keys.model_fields


def test_a_tracker_whose_switch_is_no_key_of_its() -> None:
    class Silent(TrackerDescription):
        off = ("silent", True)

    assert Silent.faults() == ["its Keys have no 'silent', which `off` says switches it off"]


def test_a_launcher_that_lacks_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAUNCHERS["local"], "implementation", "launch.launcher:Launcher")
    with pytest.raises(UserError, match=r"^launcher local: launch.launcher:Launcher lacks plan, preflight, start$"):
        launcher_of("local")


def test_a_launcher_that_lacks_what_its_description_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAUNCHERS["slurm"], "implementation", "launch.local:LocalLauncher")
    lacking = "cancel, is_job, plan_array, states, submit_array"
    with pytest.raises(UserError, match=f"^launcher slurm: launch.local:LocalLauncher lacks {lacking}$"):
        launcher_of("slurm")


def test_descriptions_are_read_without_what_they_describe() -> None:
    read = "from trainer.plugins.kinds import KINDS; [list(one) for one in KINDS.values()]"
    heavy = ("torch", "numpy", "launch", "trainer.training", "trainer.config")
    program = f"{read}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
