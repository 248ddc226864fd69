"""What share of a machine's peaks training reaches, by machine and year of its software: fitted, never felt.

`efficiency.json` is written by `scripts/results/efficiency`, which says from which published table each entry is. A
user's own runs take an entry's place (`isoflop calibrate runs=<root>`). A machine without an entry gets that of the
nearest architecture, with a wider interval; what was taken is named in the source of every time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.config.host import cache_root
from trainer.utils.errors import UserError, nearest

TABLE = Path(__file__).with_name("efficiency.json")
# Of machines that no table was fitted for: how far off the shares of another one may be, as a factor of time.
UNKNOWN_FASTER, UNKNOWN_SLOWER = 1.6, 2.0


@dataclass(frozen=True)
class Efficiency:
    """Shares of a machine's dense peak and of its memory's bandwidth, and how far off times by them are."""

    machine: str
    software: int  # year of the software that the shares stand for
    products: float  # of the peak, in linear layers
    scores: float  # of the peak, in fused attention, of the operations that are executed
    memory: float  # of the bandwidth, in what is no product, not compiled
    faster: float  # factors of the planned time that hold nine of ten rows of tables that the fit has not seen:
    slower: float  # planned / faster to planned x slower
    source: str
    rows: int = 0  # that it was fitted to

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def named(self) -> str:
        return f"shares of {self.machine}, software of {self.software}"


def efficiency(config: Config) -> Efficiency:
    """The shares for a run: refitted ones of its machine, else those of its machine's entry, else of the nearest.

    Of several years the newest up to machine.software, or the newest of all where that is not stated. Raises UserError
    where a refitted table is damaged.
    """
    own = read_own(config)
    if own is not None:
        return own
    machine, year = config.machine, config.machine.software
    entries = known()
    of_machine = [one for one in entries if one.machine == machine.name]
    if of_machine:
        return _of_year(of_machine, year)
    alike = [one for one in entries if ARCHITECTURES.get(one.machine) == (machine.architecture or "")]
    found = _of_year(alike or list(entries), year)
    wider = (1.3, 1.4) if alike else (UNKNOWN_FASTER, UNKNOWN_SLOWER)
    return Efficiency(
        **{**asdict(found), "faster": found.faster * wider[0], "slower": found.slower * wider[1]},
    )


ARCHITECTURES = {"a100-sxm-40gb": "sm_80", "a100-sxm-80gb": "sm_80", "h100-sxm": "sm_90", "v100-sxm2-32gb": "sm_70"}


def _of_year(entries: list[Efficiency], year: int | None) -> Efficiency:
    """The newest that is no newer than `year`; where all are newer, the oldest."""
    ordered = sorted(entries, key=lambda one: one.software)
    before = [one for one in ordered if year is None or one.software <= year]
    return (before or ordered[:1])[-1]


@cache
def known() -> tuple[Efficiency, ...]:
    """Every entry of the committed table."""
    return tuple(Efficiency(**one) for one in json.loads(TABLE.read_text(encoding="utf-8"))["entries"])


def own_file(config: Config) -> Path:
    """Where the refitted shares of the machine of `config` are kept."""
    return cache_root(config) / "efficiency" / f"{config.machine.name}.json"


def read_own(config: Config) -> Efficiency | None:
    """Shares that `isoflop calibrate runs=<root>` fitted for this machine; None where there are none.

    Raises UserError where the file is damaged, or is of another machine.
    """
    file = own_file(config)
    found = _read(file, file.stat().st_mtime_ns) if file.is_file() else None
    if found is not None and found.machine != config.machine.name:
        raise UserError(
            f"{file}: of machine {found.machine!r}, not {config.machine.name!r}"
            f"{nearest(found.machine, [one.machine for one in known()])}; fit it again, or delete it"
        )
    return found


@cache
def _read(file: Path, _changed: int) -> Efficiency:
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")), str(file))
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: no JSON; fit it again with isoflop calibrate runs=<root>, or delete it") from None


def parse(data: Any, where: str) -> Efficiency:
    """One entry as a file has it. Raises UserError, with all that is wrong with it in one line."""
    fields = Efficiency.__dataclass_fields__
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: no table of shares")
    wrong = [f"{name} is no key{nearest(str(name), fields)}" for name in data if name not in fields]
    wrong += [f"{name} is missing" for name in fields if name not in data and name != "rows"]
    for name in ("products", "scores", "memory", "faster", "slower"):
        value = data.get(name)
        if name in data and not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            wrong.append(f"{name}: {value!r} is no number above 0")
    if wrong:
        raise UserError(f"{where}: {'; '.join(wrong)}")
    return Efficiency(**data)
