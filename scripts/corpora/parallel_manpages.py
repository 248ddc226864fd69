"""Manual pages as parallel text: Debian's English pages and translations, page by page, paragraph by paragraph.

    python scripts/corpora/parallel_manpages.py --to man-pairs en de fr

writes man-pairs/<language>/<page>.txt, of every page that English and a translation have, and man-pairs/sources.json
(packages, versions, sha256, licences as the packages state them), and prints the overrides that train on it. The last
section of a translation, which tells who translated it, is left out. Needs apt-get and dpkg-deb, and no root.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from manpages import facts_of, text_of, unpack

ENGLISH = "en"
HEADING = ".SH"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "languages", nargs="+", help="en, and others as in the names of the packages manpages-<language>"
    )
    parser.add_argument("--to", type=Path, default=Path("man-pairs"), help="folder to write")
    options = parser.parse_args()
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            print(f"parallel_manpages: {command} is needed and was not found", file=sys.stderr)
            return 2
    languages = list(dict.fromkeys([ENGLISH, *options.languages]))
    if len(languages) < 2:
        print("parallel_manpages: name a language beside en, e.g. de", file=sys.stderr)
        return 2
    pages, facts = {}, {}
    for language in languages:
        try:
            pages[language], facts[language] = fetch(language)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.strip().splitlines()
            print(f"parallel_manpages: {language}: {reason[-1] if reason else error}", file=sys.stderr)
            return 2
    english = pages[ENGLISH]
    for language in languages[1:]:
        common = sorted(english.keys() & pages[language].keys())
        write(
            options.to / language,
            {name: text_of(without_credits(pages[language][name], english[name])) for name in common},
        )
        print(f"{language}: {len(common)} pages that {ENGLISH} has, too", file=sys.stderr)
    translated = {name for language in languages[1:] for name in pages[language]}
    write(options.to / ENGLISH, {name: text_of(page) for name, page in english.items() if name in translated})
    (options.to / "sources.json").write_text(json.dumps(facts, indent=1) + "\n")
    words = ["data=parallel", f"data.pivot={ENGLISH}"]
    print(" ".join([*words, *(f"data.parallel.{one}={shlex.quote(str(options.to / one))}" for one in languages)]))
    return 0


def fetch(language: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """(name of a page -> its source in roff, what the packages say of themselves) of a language."""
    base = "manpages" if language == ENGLISH else f"manpages-{language}"
    pages: dict[str, str] = {}
    facts = []
    for package in (base, f"{base}-dev"):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                archive = unpack(package, Path(scratch))
            except subprocess.CalledProcessError:
                if package == base:
                    raise
                continue  # not every language has the pages of developers
            facts.append(facts_of(package, archive, Path(scratch)))
            root = Path(scratch, "usr/share/man", *([] if language == ENGLISH else [language]))
            for page in sorted(path for path in root.glob("man*/*.gz") if not path.is_symlink()):
                pages[f"{page.stem}.txt"] = gzip.decompress(page.read_bytes()).decode(errors="ignore")
    return pages, facts


def without_credits(page: str, original: str) -> str:
    """A translated page without its last section where it has one more than the original."""
    begins = [number for number, line in enumerate(page.splitlines()) if line.startswith(HEADING)]
    if len(begins) != sum(line.startswith(HEADING) for line in original.splitlines()) + 1:
        return page
    return "\n".join(page.splitlines()[: begins[-1]])


def write(folder: Path, texts: dict[str, str]) -> None:
    """A file for each text. What the folder holds is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
