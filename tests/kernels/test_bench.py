"""The benchmarks on a GPU keep what they have measured, whatever comes after."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "bench"))

ENDS = {
    "os.abort()": "exit code -6",
    "time.sleep(60)": "stopped after 2 s",
    "sys.exit(3)": "exit code 3",
    "": None,
}


@pytest.mark.parametrize("end", ENDS)
def test_rows_outlive_a_crash_and_a_hang(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from environment import rows_apart

    script = tmp_path / "group.py"
    script.write_text(f"""import os, sys, time
print('{{"who": "' + sys.argv[1] + '"}}')
print('a word of some library')
print('{{"who": "half', end="", flush=True)
{end}
""")
    monkeypatch.setattr(sys, "argv", [str(script)])
    rows, wrong = rows_apart(["first"], 2)
    assert rows == [{"who": "first"}]
    assert wrong is None if ENDS[end] is None else ENDS[end] in str(wrong)


def test_one_part_leaves_time_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import environment

    monkeypatch.setattr(environment.time, "monotonic", lambda: 100.0)
    assert environment.share(160.0, 6) == 20.0
    assert environment.share(160.0, 1) == 60.0
