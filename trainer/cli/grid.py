"""`isoflop grid`: objectives at equal compute."""

from __future__ import annotations

from trainer.cli.arguments import split_flags, take_folder, whole_numbers

GRID_HELP = """\
isoflop grid grid=<name> [grid.key=value ...] [key=value ...] [jobs=1] [out=<folder>] [--plan] [--json]

Pre-trains every objective of the grid with the same budget, tunes all on the same tasks and prints the table. The same
command goes on where an earlier one was stopped. Other keys are overrides of every pre-training run. With grid.sizes
every objective is trained at each size, and the table says how many times the compute of the first each needs for the
same score.
  jobs=1         runs at a time
  out=<folder>   where grid.md, grid.json, grid.png and grid.svg go; default: beside the runs
  --plan         only say which runs there would be, and what they cost
"""


def grid(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json", "--plan")
    if flags & {"--help", "-h"}:
        from trainer.compose import describe_grid

        print(GRID_HELP + describe_grid())
        return 0
    from trainer.scaling import grid as grids

    words, numbers = whole_numbers("grid", words, jobs=1)
    words, out = take_folder("grid", words)
    if "--plan" in flags:
        print(grids.format_plan(*grids.planned_grid(words)))
        return 0
    return grids.run_grid(words, jobs=numbers["jobs"], out=out, as_json="--json" in flags)
