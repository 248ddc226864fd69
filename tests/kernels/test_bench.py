"""The benchmarks on a GPU keep what they have measured, whatever comes after."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "bench"))

ENDS = {
    "os.abort()": "exit code -6",
    "time.sleep(60)": "stopped after 5 s",
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
    rows, wrong = rows_apart(["first"], 5 if "sleep" in end else 60)
    assert rows == [{"who": "first"}]
    assert wrong is None if ENDS[end] is None else ENDS[end] in str(wrong)


def test_one_part_leaves_time_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import environment

    monkeypatch.setattr(environment.time, "monotonic", lambda: 100.0)
    assert environment.share(160.0, 6) == 20.0
    assert environment.share(160.0, 1) == 60.0


class Pool:
    """Compiles at once, in this process; what takes too long or falls says so when it is asked."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def apply_async(self, work: Any, words: tuple[Any, ...]) -> SimpleNamespace:
        return SimpleNamespace(get=lambda seconds: work(*words))


@pytest.mark.parametrize("entries", [3, None])
def test_tiles_are_timed_in_order_until_the_time_is_over(
    entries: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fastest of those that fit is kept, and what was done before the end is."""
    import tune

    kept: list[tuple[Any, Any]] = []
    monkeypatch.setattr(tune.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=lambda count: Pool()))
    monkeypatch.setattr(tune.time, "monotonic", lambda: 100.0 if len(kept) == entries else 0.0)
    asked = []

    def fits(kernel: str, arch: str, head: int, kind: str, entry: Any) -> bool:
        asked.append(entry)
        if len(asked) % 5 == 4:
            raise RuntimeError("the compiler gives up")
        return len(asked) % 5 != 3

    monkeypatch.setattr(tune, "fits_once_run", fits)
    monkeypatch.setattr(tune, "time_entry", lambda kernel, head, kind, entry: float(sum(entry)))
    monkeypatch.setattr(
        tune, "first_that_fits", lambda kernel, arch, head, kind: tune.candidates(kernel, head, kind)[-1]
    )
    wanted = tune.in_order(["forward", "dkdv"])
    assert all(head <= 128 and kind != "float" and "heavy" not in kind for _, head, kind in wanted[:4])
    assert sorted(wanted) == sorted((k, h, s) for k in ("forward", "dkdv") for h in tune.HEADS for s in tune.KINDS)
    done = tune.tune("sm_90", wanted, 50.0, lambda key, entry: kept.append((key, entry)))
    assert done == len(kept) == (entries or len(wanted))
    assert [key for key, _ in kept] == wanted[:done]
    first = tune.candidates(*wanted[0])
    fitting = [entry for place, entry in enumerate(first, 1) if place % 5 not in (3, 4)]
    assert kept[0][1] == min(fitting, key=sum)
    table = {"sm_90": dict(kept)}
    described = {"sm_90": {("tma", 128, "plain"): (128, 128, 8, 2)}}
    tune.write(table, described | {"sm_80": {}}, {"sm_80"}, tmp_path / "table.py")
    written: dict[str, Any] = {}
    exec((tmp_path / "table.py").read_text(), written)
    assert written["ATTENTION"] == table and written["TIMED"] == {"sm_80"} and written["DESCRIPTORS"] == described
