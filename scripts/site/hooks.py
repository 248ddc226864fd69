"""What `mkdocs build` does beside copying docs/: the reference from the schema, and links that GitHub would follow.

Named by `hooks` in mkdocs.yml. The reference is made anew at every build and lies in no folder of the repository.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
os.environ["XDG_CONFIG_HOME"] = os.devnull  # what a person remembers of this host is no part of the documentation
for variable in ("ISOFLOP_CONFIG_DIR", "ISOFLOP_PLUGINS"):
    os.environ.pop(variable, None)

import reference  # noqa: E402
import verbs  # noqa: E402

log = logging.getLogger("mkdocs.hooks.isoflop")
KEYS = "Every key"  # the entry of `nav` that is filled with the pages of the groups
BOOST = {
    "faq.md": 3,
    "tutorial.md": 2,
    "benchmarks/sass.md": 0.3,
}  # in the search: whoever asks in plain words comes first
LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]+)\]\((?P<target>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the entry of the reference, so that mkdocs.yml need not list the groups."""
    made = reference.pages()
    index, *groups = made
    config.extra["generated"] = {**made, f"{reference.FOLDER}/verbs.md": verbs.page()}
    config.nav = _filled(config.nav, [index, *({Path(path).stem: path} for path in groups)])
    return config


def _filled(nav: Any, pages: list[dict[str, str]]) -> Any:
    if isinstance(nav, list):
        return [_filled(one, pages) for one in nav]
    if isinstance(nav, dict):
        return {name: pages if name == KEYS else _filled(below, pages) for name, below in nav.items()}
    return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, text in config.extra["generated"].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository that are no pages become their path; one to nothing is a warning, which a
    strict build does not pass."""

    def followed(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), link["target"]))
        if place.startswith("docs/"):
            return link[0]
        if not (ROOT / place).exists():
            log.warning("%s: a link to %r, which is no file of the repository", page.file.src_uri, place)
        return f"`{place}`" if link["label"].strip("`") == place else f"{link['label']} (`{place}`)"

    if page.file.src_uri in BOOST:
        page.meta["search"] = {"boost": BOOST[page.file.src_uri]}
    return LINK.sub(followed, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The theme's field of search is a dialog without a name, which a screen reader would not tell."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
