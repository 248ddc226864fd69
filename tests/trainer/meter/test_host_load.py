"""What the system says of the cores that a process wants, read from files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.meter import host_load


class Host:
    """/proc as far as it is read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loadavg, self.tasks, self.now = folder / "loadavg", folder / "task", 100.0
        self.tasks.mkdir()
        monkeypatch.setattr(host_load, "LOADAVG", self.loadavg)
        monkeypatch.setattr(host_load, "TASKS", self.tasks)

    def runnable(self, *threads: int) -> int | None:
        """As found where so many threads run at the looks."""
        looks = iter(threads)

        def look(seconds: float = 0.0) -> None:
            self.loadavg.write_text(f"3.79 2.14 1.95 {next(looks, threads[-1])}/101 4732\n")

        look()
        return host_load.runnable(look)

    def ran(self, thread: int, ran: float, waited: float) -> None:
        """Seconds so far."""
        (self.tasks / str(thread)).mkdir(exist_ok=True)
        (self.tasks / str(thread) / "schedstat").write_text(f"{ran * 1e9:.0f} {waited * 1e9:.0f} 17\n")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_who_is_runnable_beside_the_one_that_asks(host: Host) -> None:
    assert host.runnable(1, 1, 1, 1, 1) == 0
    assert host.runnable(6, 6, 6, 6, 6) == 5
    assert host.runnable(1, 40, 1, 2, 1) == 0  # a moment is no load


def test_a_system_that_does_not_say(host: Host) -> None:
    assert host_load.runnable(lambda seconds: None) is None
    host.loadavg.write_text("nonsense\n")
    assert host_load.runnable(lambda seconds: None) is None
    assert host_load.Waiting().share() is None
    host.ran(1, 0.0, 0.0)  # a kernel that keeps no account
    assert host_load.Waiting().share() is None


def test_the_share_of_waiting_is_that_of_all_threads_since_the_reading_before(host: Host) -> None:
    host.ran(1, 5.0, 1.0)
    waiting = host_load.Waiting(lambda: host.now)
    assert waiting.share() is None
    host.ran(1, 6.0, 1.0)
    host.ran(2, 1.0, 2.0)  # a thread that came since
    assert waiting.share() is None  # less than a second
    host.now += 1.5
    assert waiting.share() == pytest.approx(2.0 / 4.0)
    host.now += 1.5
    host.ran(1, 8.0, 1.0)
    assert waiting.share() == pytest.approx(0.0)
