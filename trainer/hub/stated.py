"""What only the person who publishes a model can say of it, as the hub's metadata spell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.utils.errors import UserError, nearest

# The identifiers that the hub's form knows; `other` has its text in the card.
LICENSES = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "ncsa", "ms-pl"),
    *("unlicense", "wtfpl", "postgresql", "artistic-2.0", "afl-3.0", "bsl-1.0", "ecl-2.0", "osl-3.0", "lppl-1.3c"),
    *("agpl-3.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "gfdl", "mpl-2.0"),
    *("epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "etalab-2.0", "ofl-1.1", "odbl", "odc-by", "pddl", "c-uda"),
    *("cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m", "bigcode-openrail-m"),
    *("bigscience-bloom-rail-1.0", "openmdw-1.0", "h-research", "intel-research", "apple-ascl", "apple-amlr"),
    *("deepfloyd-if-license", "fair-noncommercial-research-license", "grok2-community", "gemma"),
    *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "other", "unknown"),
)
# Codes of ISO 639-1, and any of three letters as in ISO 639-3.
CODE = re.compile(
    r"a[abefkmnrsvyz]|b[aegimnors]|c[aehorsuvy]|d[aevz]|e[elnostu]|f[afijory]|g[adlnuv]|h[aeiortuyz]|i[adegikostu]|j[av]|"
    r"k[agijklmnorsuvwy]|l[abginotuv]|m[ghiklnrsty]|n[abdeglnorvy]|o[cjmrs]|p[ailst]|qu|r[mnouw]|s[acdegiklmnoqrstuvw]|"
    r"t[aeghiklnorstwy]|u[gkrz]|v[eio]|w[ao]|xh|y[io]|z[ahu]|[a-z]{3}"
)
OTHER_LANGUAGES = ("code", "multilingual")
OPTIONS = ("license", "language", "base_model", "datasets")


@dataclass(frozen=True)
class Stated:
    """Empty where nothing is stated."""

    license: str | None = None
    language: tuple[str, ...] = ()
    base_model: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    @staticmethod
    def of(options: Mapping[str, str]) -> Stated:
        """From the options of a command, several values with commas between them. Raises UserError, a line for each
        value that the hub's form does not take."""
        given = {name: _several(options[name]) for name in OPTIONS if name in options}
        wrong = [f"export: {name}: nothing given; leave it out" for name, values in given.items() if not values]
        wrong += _wrong_licenses(given.get("license", ()))
        wrong += [
            f"export: language: {one!r} is no language of the hub{nearest(one, OTHER_LANGUAGES)}; a code of ISO 639 "
            f"wanted, e.g. en, de or deu, or {', '.join(OTHER_LANGUAGES)}"
            for one in given.get("language", ())
            if not is_language(one)
        ]
        wrong += [
            f"export: {name}: {one!r} is no name on the hub; <owner>/<name> wanted, or <name>"
            for name in ("base_model", "datasets")
            for one in given.get(name, ())
            if not is_repository(one)
        ]
        if wrong:
            raise UserError("\n".join(wrong))
        licenses = given.pop("license", ())
        return Stated(license=licenses[0] if licenses else None, **given)


def _several(text: str) -> tuple[str, ...]:
    words = (word.strip().strip("'\"") for word in text.strip().removeprefix("[").removesuffix("]").split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _wrong_licenses(given: tuple[str, ...]) -> list[str]:
    if len(given) > 1:
        return [f"export: license: {', '.join(given)} given, one wanted"]
    return [
        f"export: license: {one!r} is none that the hub's form knows{nearest(one.lower(), LICENSES)}; e.g. "
        "apache-2.0, mit, cc-by-4.0, or other, and its text in the card"
        for one in given
        if one not in LICENSES
    ]


def is_language(text: str) -> bool:
    """Whether the hub's form takes it as a language."""
    return text in OTHER_LANGUAGES or CODE.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether something on the hub can be called so: <owner>/<name>, or <name> for the oldest."""
    parts = text.split("/")
    plain = all(re.fullmatch(r"\w([\w.-]{0,94}\w)?", part, re.ASCII) for part in parts)
    return len(parts) <= 2 and plain and "--" not in text and ".." not in text
