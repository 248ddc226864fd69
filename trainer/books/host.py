"""What is known of this host's processor without a datasheet: the product and the copy that were measured on it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from trainer.books.step_work import Work
from trainer.config import Config
from trainer.config.host import cache_root, precision, processor, threads
from trainer.utils.files import write_atomic

VERSION = 1  # of the file
QUIET = 0.75  # share of the processors' time below which a host counts as busy


@dataclass(frozen=True)
class Probe:
    """What a large product and a large copy reached on one processor, with so many threads, in one precision."""

    processor: str
    threads: int  # of all the host's ranks together
    precision: str
    flop_per_second: float
    bytes_per_second: float  # read and written
    date: str
    share: float = 1.0  # of the processors' time that the product was given, while other work ran

    @property
    def busy(self) -> bool:
        """Whether other work took so much that both rates are too low."""
        return self.share < QUIET

    @property
    def label(self) -> str:
        return f"measured on this host {self.date}" + (", busy with other work" if self.busy else "")

    @property
    def line(self) -> str:
        """What was found, for a person."""
        counted = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        other = f"; other work left it {self.share:.0%} of its processors, so again on another day" if self.busy else ""
        return (
            f"this host, {self.processor}, {counted}: {self.flop_per_second / 1e9:.3g} GFLOP/s in {self.precision}, "
            f"{self.bytes_per_second / 1e9:.3g} GB/s (measured once, kept{other})"
        )


def probed_threads(config: Config) -> int:
    """Threads of all ranks of this host together, which share its peak and its bandwidth."""
    return threads(config) * config.launch.processes


def probe_file(config: Config) -> Path:
    """Where a host's probe is kept: one file a processor, precision and number of threads."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in processor()).strip("-")
    return cache_root(config) / "host" / f"{plain}-{precision(config)}-{probed_threads(config)}.json"


def write_probe(config: Config, found: Probe) -> None:
    """Raises OSError where the cache cannot be written."""
    file = probe_file(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps({"version": VERSION, **asdict(found)}, indent=1) + "\n")


def read_probe(config: Config) -> Probe | None:
    """Of this processor, precision and number of threads; None where nothing was measured, or the file is damaged."""
    try:
        data = json.loads(probe_file(config).read_text())
        if data.pop("version") != VERSION:
            return None
        found = Probe(**{one.name: data[one.name] for one in fields(Probe)})
        rates = (float(found.flop_per_second), float(found.bytes_per_second), float(found.share))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    sound = all(math.isfinite(rate) and rate > 0 for rate in rates) and isinstance(found.date, str)
    same = (found.processor, found.threads, found.precision) == (processor(), probed_threads(config), precision(config))
    return found if sound and same else None


# Of the measured peak and bandwidth, what training steps of small models reach, and the seconds of a block's operators
# beside. `scripts/bench/host_shares --cpu-seconds` (five kinds of models, five shapes each) measured 0.72 to 1.47
# of what these say in fp32 and 0.7 to 1.6 in bf16; no other processor or number of threads was: the interval is wider.
PRODUCTS, SCORES, MEMORY = 0.95, 0.38, 0.2
BLOCK = {"fp32": 2e-3, "bf16": 7e-3}
FAST, SLOW = 0.5, 2.0  # of the estimate


@dataclass(frozen=True)
class HostPace:
    """Times of work on a host that was probed and not calibrated: right within a factor of two or so."""

    probe: Probe
    ranks: int = 1  # which divide the host

    @property
    def source(self) -> str:
        return f"product and copy {self.probe.label}" + (", without what ranks send" if self.ranks > 1 else "")

    def seconds(self, work: Work) -> float:
        peak, bandwidth = self.probe.flop_per_second / self.ranks, self.probe.bytes_per_second / self.ranks
        moved = work.activation_bytes + work.loss_bytes + work.optimizer_bytes
        products = work.product_flop / (PRODUCTS * peak) + work.score_flop / (SCORES * peak)
        return products + moved / (MEMORY * bandwidth) + work.layers * BLOCK[self.probe.precision]

    def bounds(self, seconds: float) -> tuple[float, float | None]:
        share = self.probe.share if self.probe.busy else 1.0  # nobody knows what other work the run will meet
        return FAST * share * seconds, SLOW / share * seconds if self.ranks == 1 else None
