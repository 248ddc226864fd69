"""Training speed by how long OpenMP's threads spin before they sleep, on an idle host and beside busy processes.

    scripts/bench/threads [--rounds 5] [--seconds 4] [--only default small] [--write]

Two models, the default and one of about 100 thousand parameters. Every measurement is a process of its own, because
GOMP_SPINCOUNT is read once, when torch is loaded. The settings take turns, idle and loaded; a figure is the median of
the rounds in tokens/s. Loaded: three busy loops for every two cores. --write makes docs/benchmarks/threads.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

MODELS = {
    "default": [],
    "small": ["model.depth=2", "model.width=48", "model.heads=3", "model.kv_heads=3", "tokenizer.vocabulary=512"],
}
SETTINGS: dict[str, dict[str, str]] = {
    "OpenMP's own": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=300": {"GOMP_SPINCOUNT": "300"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OWN = "OpenMP's own"
Figures = dict[tuple[str, bool], list[float]]  # (setting, loaded) -> tokens/s


def speed(model: str, seconds: float) -> float:
    """Tokens/s of `seconds` of training steps in this process."""
    import numpy as np
    import torch

    from trainer.compose import compose
    from trainer.config.host import cores
    from trainer.training.distributed import join
    from trainer.training.engine import Engine

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", cores())))
    config = compose(["tracker.console=none", "engine.device=cpu", *MODELS[model]])
    engine = Engine(config, join("cpu", 60.0))
    rows, length = config.optim.batch_size, config.data.sequence_length
    tokens = np.random.default_rng(0).integers(4, config.vocabulary, (rows, length + 1))
    batch = {
        "tokens": np.ascontiguousarray(tokens[:, :-1]),
        "targets": np.ascontiguousarray(tokens[:, 1:]),
        "segments": np.zeros((rows, length), np.int32),
        "positions": np.broadcast_to(np.arange(length), (rows, length)).copy(),
    }

    def step() -> None:
        engine.forward_backward([batch], rows * length)
        engine.gradient_norm()
        engine.update(1e-4)

    for _ in range(3):
        step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    return steps * rows * length / (time.perf_counter() - began)


def measured(model: str, setting: str, seconds: float) -> float:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, "--one", model, "--seconds", str(seconds)]
    done = subprocess.run(command, env=clean | SETTINGS[setting], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in loops:
            process.kill()
            process.wait()


def figures_of(model: str, rounds: int, seconds: float) -> Figures:
    loops = -(-3 * len(os.sched_getaffinity(0)) // 2)
    found: Figures = {}
    for number in range(rounds):
        for loaded in (False, True):
            with busy_loops(loops if loaded else 0):
                for setting in SETTINGS:
                    found.setdefault((setting, loaded), []).append(measured(model, setting, seconds))
                    where = "loaded" if loaded else "idle"
                    last = found[setting, loaded][-1]
                    print(f"{model}, round {number + 1}, {where}, {setting}: {last:.0f}", file=sys.stderr, flush=True)
    return found


def rows_of(model: str, figures: Figures) -> list[str]:
    median = {key: statistics.median(values) for key, values in figures.items()}
    rows = []
    for setting in SETTINGS:
        shares = [median[setting, loaded] / median[OWN, loaded] for loaded in (False, True)]
        speeds = [f"{median[setting, loaded]:,.0f}" for loaded in (False, True)]
        rows.append("| " + " | ".join([model, setting, *speeds, *(f"{share:.2f}" for share in shares)]) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(speed(options.one, options.seconds))
        return
    lines = ["| model | setting | idle, tokens/s | loaded, tokens/s | idle / own | loaded / own |", "|---" * 6 + "|"]
    for model in options.only:
        lines += rows_of(model, figures_of(model, options.rounds, options.seconds))
    print("\n".join(lines))
    if options.write:
        from environment import environment

        made = environment("trainer")
        said = f"`scripts/bench/threads {' '.join(sys.argv[1:])}`, commit {made['commit'][:7]}, torch {made['torch']}"
        text = (
            f"# Threads and spinning\n\n{said}, {os.cpu_count()} cores, {made['date']}.\n\n" + "\n".join(lines) + "\n"
        )
        (ROOT / "docs" / "benchmarks" / "threads.md").write_text(text)


if __name__ == "__main__":
    main()
