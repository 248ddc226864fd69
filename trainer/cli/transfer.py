"""The verb `transfer`: whether the best setting of a small model is that of a large one."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import folder_and_options, number_of, one_of, split_flags

HELP = """\
isoflop transfer <root of runs | table.csv> [name=value ...] [--json]

Says where the loss was lowest over one setting at each size (a parabola over its logarithm, with an interval), how that
drifts per doubling of parameters, tokens, width and depth, in steps of the grid that was tried, and what it costs to
use the smallest size's best at the largest. Runs of each optimizer and parametrization (standard, muP, CompleteP) are
a series. Writes transfer.json, transfer.png and transfer.svg.

A table needs the columns parameters, loss and the setting (lr, batch or weight_decay); tokens, width, depth, optimizer,
parametrization, seed and status are used if there.

  setting=optim.lr       the setting: any key with numbers of run folders; of a table also optim.batch_size,
                         optim.weight_decay
  column.<name>=<title>  the column of a table that holds parameters, loss, lr, batch, ...
  mixed=true             runs of different data, tokenizers or objectives together
  seed=0                 of the intervals' draws
  out=<folder>           where to write; default <root>/transfer, or <table>-transfer beside the table
"""


def transfer(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print(HELP)
        return 0
    from trainer.scaling import transfer as transferring

    columns = {
        word[7:].split("=")[0]: word.split("=", 1)[1] for word in words if word.startswith("column.") and "=" in word
    }
    words = [word for word in words if not (word.startswith("column.") and "=" in word)]
    source, options = folder_and_options("transfer", words, ("setting", "mixed", "seed", "out"))
    mixed = one_of("transfer", options, "mixed", ("false", "true"))
    seed = number_of("transfer", options, "seed", 0, 0)
    setting = options.get("setting", "optim.lr")
    points = transferring.read_points(source, setting, columns, mixed=mixed == "true")
    found = transferring.transfer(points, seed)
    default = source / "transfer" if source.is_dir() else source.with_name(f"{source.stem}-transfer")
    folder = Path(options.get("out") or default)
    facts = transferring.write_transfer(found, folder)
    text = f"{transferring.format_transfer(found)}\n\npicture   {folder}/transfer.png"
    print(json.dumps(facts, indent=1) if "--json" in flags else text)
    return 0
