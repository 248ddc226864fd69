"""The proof on a GPU: compile, correctness, speed beside PyTorch's own, and the whole step, within a time limit.

    scripts/bench/gpu --minutes 8                    # all of it, the most valuable first
    scripts/bench/gpu --minutes 3 --only attention/causal attention/packed
    scripts/bench/gpu --plan                         # on any machine: what would run, in which order, for how long
    scripts/bench/gpu --adopt docs/benchmarks/gpu-h200.json    # anywhere: `auto` decides by what was measured

Writes docs/benchmarks/gpu-<chip>.{json,md} whole after every row. What the file holds for these sources, this chip and
these versions is not run again. `--wheels DIR` first installs the wheels there
into a folder of their own, for an image that lacks what the trainer needs. See docs/benchmarks/gpu.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from proof.plan import WHOLE, chosen, told  # noqa: E402


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=WHOLE / 60, help="for everything together; default %(default)g"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="cases whose names begin so; see --plan")
    parser.add_argument("--plan", action="store_true", help="print the cases, their order and seconds, and run nothing")
    parser.add_argument("--again", action="store_true", help="run also what failed before on the same sources")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="a folder of .whl files to install first")
    parser.add_argument("--adopt", type=Path, metavar="FILE", help="put FILE's measured ratios into kernels/speed.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", metavar="DIR")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of the warm-up; default: the cores")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU: do the cases run at all?")
    parser.add_argument("--worker", choices=("measure", "warm", "tests"), help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--names", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.minutes > 0:
        refuse(f"--minutes is {options.minutes:g}; it must be more than 0")
    if options.processes < 1:
        refuse(f"--processes is {options.processes}; it must be at least 1")
    if options.wheels and not options.wheels.is_dir():
        refuse(f"--wheels: {options.wheels} is no folder")
    if not chosen(options.only):
        refuse(f"--only: no case begins with {' or '.join(options.only)}; --plan prints their names")
    return options


def refuse(why: str) -> None:
    print(f"gpu: {why}", file=sys.stderr)
    sys.exit(2)


def take_over(results: Path) -> None:
    from proof.ratios import adopt

    table = ROOT / "kernels" / "speed.json"
    try:
        print(f"{adopt(results, table)} ratios of {results} stand in {table.relative_to(ROOT)} now")
    except ValueError as error:
        refuse(str(error))


def work(options: argparse.Namespace) -> None:
    from proof import worker

    if options.worker == "tests":
        worker.test(options.names)
    elif options.worker == "warm":
        worker.work(options.names, options.until, worker.warm, patient=True)
    else:
        worker.work(options.names, options.until, worker.row_of)


def prove(options: argparse.Namespace) -> int:
    """The exit code: 0, 1 where something failed, 128 + the signal where one came."""
    import time

    from environment import environment
    from proof import conductor
    from proof.results import SOURCES, Results, chip_name, sources_digest

    began, stop = time.monotonic(), conductor.Stop()
    stop.listen()
    where = environment(*SOURCES)
    path = options.out / f"gpu-{chip_name(where['gpu'])}.json"
    results = Results(path, where, sources_digest())
    if options.again:
        results.forget_failures()
    paths = []
    if options.wheels:
        paths = [Path(tempfile.mkdtemp(prefix="isoflop-wheels-"))]
        results.parts["wheels"] = conductor.installed(options.wheels, paths[0])
        print(f"== wheels: {results.parts['wheels']}", flush=True)
    proof = conductor.Proof(
        results, chosen(options.only), stop, paths, options.processes, lambda line: print(line, flush=True)
    )
    proof.run(60 * options.minutes - (time.monotonic() - began))
    print(f"== {path.with_suffix('.md')}")
    if stop.signal is not None:
        return 128 + stop.signal
    failed = [*proof.broken, *conductor.failures(results)]
    if failed:
        print(f"gpu: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    options = asked()
    if options.plan:
        print(told(options.minutes, chosen(options.only)))
        return
    if options.adopt:
        take_over(options.adopt)
        return
    try:
        import torch
    except ModuleNotFoundError:
        refuse("torch is not installed")
    if options.worker:
        work(options)
        return
    if not torch.cuda.is_available() and not options.smoke:
        refuse("no GPU here, and nothing to prove without one; --plan says what would run")
    sys.exit(prove(options))


if __name__ == "__main__":
    main()
