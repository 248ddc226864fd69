"""`isoflop new`: the folder of a project of one's own."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import split_flags, wants_help
from trainer.utils.errors import UserError
from trainer.utils.home import expanded

TEMPLATES = Path(__file__).parent / "templates"
FILES = {  # of the project, and what stands in each
    "README.md": "README.md",
    ".gitignore": "gitignore.txt",
    "configs/model/mine.yaml": "model.yaml",
    "configs/experiment/small.yaml": "experiment.yaml",
    "my_plugin.py": "my_plugin.txt",
    "tests/test_configs.py": "test_configs.txt",
    "tests/test_my_plugin.py": "test_my_plugin.txt",
}
SCHEMAS = ("model", "experiment")
HELP = "isoflop new <folder>: a project: configs/ with a model and an experiment, a plugin, tests, schemas, README.md\n"


def new(arguments: list[str]) -> int:
    words, flags = split_flags(arguments)
    if wants_help(flags, HELP, keys=False):
        return 0
    if len(words) != 1 or not words[0]:
        raise UserError(f"new: name one folder, e.g. isoflop new my-experiments; got {' '.join(words) or 'none'}")
    name, equals, value = words[0].partition("=")
    if words[0].startswith("-") or (equals and "/" not in name):  # which a misspelt option is, and hardly a folder
        raise UserError(
            f"new: {words[0]}: it takes the name of a folder alone: isoflop new {value or 'my-experiments'}"
        )
    folder = expanded(words[0])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "it is not empty" if folder.is_dir() else "it is a file"
        raise UserError(f"new: {folder}: {what}; name a folder that is new")
    write_project(folder)
    print(f"made {folder}; {folder / 'README.md'} says how to go on")
    return 0


def write_project(folder: Path) -> None:
    """Write the files of a project into a folder, which is made where it is missing."""
    from trainer.compose import searching
    from trainer.compose.json_schema import json_schema

    for name, template in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((TEMPLATES / template).read_text().replace("{project}", folder.resolve().name))
    (folder / "schemas").mkdir()
    with searching(folder / "configs"):  # an editor offers its files too
        for group in SCHEMAS:
            text = json.dumps(json_schema(group), indent=1, ensure_ascii=False)
            (folder / "schemas" / f"{group}.json").write_text(text + "\n")
