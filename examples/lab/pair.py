"""The notebooks from their programs: `python examples/lab/pair.py` writes every .ipynb anew, without outputs.

The programs (jupytext's percent format) are what is edited; JupyterLab with jupytext opens either of a pair.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).parent


def paired(program: Path) -> str:
    """The text of the notebook of a program, the same every time: cells are numbered."""
    notebook = jupytext.read(program)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    for program in sorted(HERE.glob("[0-9]*.py")):
        program.with_suffix(".ipynb").write_text(paired(program))
        print(program.with_suffix(".ipynb").name)
