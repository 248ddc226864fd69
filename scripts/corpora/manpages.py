"""Manual pages in many languages as a corpus: downloads Debian's packages (nothing is installed) and keeps their text.

    python scripts/corpora/manpages.py --to man de fr ja

writes man/<language>/<page>.txt and man/sources.json (package, version, sha256, licences as the package states them),
and prints the overrides that train on the mixture. Needs apt-get and dpkg-deb, and no root.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ESCAPE = re.compile(
    r"\\(?:f(?:\[\w*\]|\(..|.)|s[-+]?\d+|\((..)|\[([^\]]+)\]|\*(?:\[\w+\]|\(..|.)|([-&\\e|^/,:% ~.'`0]))"
)
NAMED = {
    **{"lq": "“", "rq": "”", "oq": "‘", "cq": "’", "aq": "'", "dq": '"', "em": "—", "en": "–", "hy": "-", "mi": "-"},
    **{"bu": "•", "co": "©", "rs": "\\", "ha": "^", "ti": "~", "Fo": "«", "Fc": "»", "<=": "≤", ">=": "≥", "mu": "×"},
}
PLAIN = {"-": "-", "e": "\\", "\\": "\\", " ": " ", "~": " ", "0": " ", ".": ".", "'": "'", "`": "`"}
SPEAKING = re.compile(r"\.\s*(?:SH|SS|TP|IP|B|I|BR|RB|BI|IB|IR|RI|SM|SB)\b\s*(.*)")  # macros whose words are read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("languages", nargs="+", help="as in the names of the packages manpages-<language>")
    parser.add_argument("--to", type=Path, default=Path("man"), help="folder to write")
    options = parser.parse_args()
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            print(
                f"manpages: {command} is needed and was not found; this script reads Debian's packages", file=sys.stderr
            )
            return 2
    facts = {}
    for language in options.languages:
        try:
            facts[language] = fetch(language, options.to / language)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.strip().splitlines()
            print(f"manpages: manpages-{language}: {reason[-1] if reason else error}", file=sys.stderr)
            return 2
    (options.to / "sources.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(" ".join(["data=mixture", "data.alpha=0.3", *map(shlex.quote, overrides(options.to, facts))]))
    return 0


def overrides(folder: Path, facts: dict[str, dict[str, str | int]]) -> list[str]:
    """One source of the mixture per language, in Hydra's grammar."""
    return [
        f'+data.sources.{language}={{path: "{folder / language}", language: {language}, licence: "{fact["licence"]}"}}'
        for language, fact in facts.items()
    ]


def fetch(language: str, folder: Path) -> dict[str, str | int]:
    """The pages of one package as text files; says where they come from. What `folder` holds is replaced."""
    package = f"manpages-{language}"
    with tempfile.TemporaryDirectory() as scratch:
        archive = unpack(package, Path(scratch))
        aside = folder.with_name(folder.name + ".partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        size = 0
        pages = sorted(path for path in Path(scratch, "usr/share/man").rglob("*.gz") if not path.is_symlink())
        for page in pages:
            text = text_of(gzip.decompress(page.read_bytes()).decode(errors="ignore"))
            (aside / f"{page.stem}.txt").write_text(text)
            size += len(text.encode())
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        facts = facts_of(package, archive, Path(scratch))
    print(f"{package} {facts['version']}: {len(pages)} pages, {size:,} bytes of text", file=sys.stderr)
    return {**facts, "pages": len(pages)}


def unpack(package: str, folder: Path) -> Path:
    """Download a package into the folder and unpack it there; the package's file."""
    _run("apt-get", "download", package, cwd=str(folder))
    archive = next(folder.glob("*.deb"))
    _run("dpkg-deb", "-x", str(archive), str(folder))
    return archive


def facts_of(package: str, archive: Path, folder: Path) -> dict[str, str]:
    """What a package that is unpacked in the folder says of itself: version, licences; and its sha256."""
    file = Path(folder, "usr/share/doc", package, "copyright")
    stated = file.read_text(errors="ignore") if file.is_file() else ""  # else it is in another package of the source
    licences = dict.fromkeys(re.findall(r"^License:\s*(\S.*)$", stated, re.MULTILINE))
    return {
        "package": package,
        "version": _run("dpkg-deb", "-f", str(archive), "Version").strip(),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "licence": " and ".join(licences) or "see the copyright file of the package",
    }


def _run(*command: str, cwd: str | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def text_of(page: str) -> str:
    """The words of a page in roff: headings, paragraphs and the arguments of macros that print them."""
    lines: list[str] = []
    for line in page.splitlines():
        if line.startswith((".", "'")):
            speaking = SPEAKING.match(line)
            if not speaking:
                if re.match(r"\.\s*(PP|LP|P|sp)\b", line):
                    lines.append("")
                continue
            if re.match(r"\.\s*S[HS]\b", line):
                lines.append("")
            line = speaking[1].replace('"', "")
        if line.strip():
            lines.append(ESCAPE.sub(_plain, line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _plain(escape: re.Match[str]) -> str:
    named = escape[1] or escape[2]
    if named:
        return NAMED.get(named, "")
    return PLAIN.get(escape[3] or "", "")


if __name__ == "__main__":
    sys.exit(main())
