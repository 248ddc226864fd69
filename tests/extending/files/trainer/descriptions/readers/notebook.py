"""Jupyter's notebooks."""

from __future__ import annotations

from typing import Literal

from trainer.descriptions.readers import ReaderDescription
from trainer.utils.schema import key


class Notebook(ReaderDescription):
    """A notebook, a document of what was written and programmed in it."""

    name = "notebook"
    help = "Jupyter's notebooks, without what their cells print"
    implementation = "trainer.data.notebook:notebook_documents"
    suffixes = (".ipynb",)

    class Keys(ReaderDescription.Keys):
        """Which cells."""

        cells: Literal["all", "code", "markdown"] = key("all", "cells of notebooks that are read", introduced="all")
