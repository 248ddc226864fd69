"""The command `isoflop`: finds the verb, and answers what a person got wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer import __version__
from trainer.cli.metering import run_verb
from trainer.cli.pages import point_to_page
from trainer.cli.verbs import VERBS, usage
from trainer.training.faults.signals import behind, interrupted
from trainer.utils.command_line import remember as remember_words
from trainer.utils.errors import UserError, code_of, nearest, tell, tell_fault
from trainer.utils.files import FULL
from trainer.utils.outcomes import ExitCode
from trainer.utils.own_packages import ForeignPackage, require_own_packages


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    Bad input is one line per error and exit code 2; what isoflop got wrong is one line that names the file with the
    traceback, and exit code 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    remember_words(words)
    try:
        require_own_packages()
        _stands_somewhere()
        if strange := [word for word in words if not word.isprintable() and not _is_text(word)]:
            raise UserError(f"{strange[0]!r}: no text in UTF-8")
        if not words or words[0] in ("-h", "--help") or words == ["help"]:
            print(usage(), end="")
            return 0
        if words[0] == "--version":
            print(version())
            return 0
        from trainer.cli.arguments import take_config_options, take_plugins
        from trainer.plugins import load

        words, settings = take_config_options(words)
        words, plugins = take_plugins(words)
        if not words:
            raise UserError("name a verb; isoflop --help names all")
        verb, arguments = words[0], words[1:]
        if verb not in VERBS:
            raise UserError(_no_verb(verb))
        load(plugins)
        if not settings:
            return run_verb(verb, VERBS[verb], arguments, whole=argv is None)
        from trainer.compose import searching

        with searching(**settings):
            return run_verb(verb, VERBS[verb], arguments, whole=argv is None)
    except (UserError, ForeignPackage) as error:
        tell(error)
        if sys.stderr.isatty():  # what reads a pipe has one line for an error
            point_to_page(str(error), words)
        return code_of(error)
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno in FULL:
            what = error.filename or "standard output, or a file that was being written"
            tell(UserError(f"{what}: the disk, or the quota on it, is full; free some space"))
            return ExitCode.FAILED
        if error.filename is None:  # nothing that a person could see to
            return _failed(error)
        tell(UserError(f"{error.filename}: {error.strerror}"))
        return ExitCode.BAD_INPUT
    except KeyboardInterrupt as error:
        return interrupted(error)
    except Exception as error:
        return _failed(error)


def _no_verb(word: str) -> str:
    if word.startswith("-"):
        flags = ("--help", "--version")
        return f"{word}: no such option before a verb{nearest(word, flags)}; there is {', '.join(flags)}"
    hint = f"; overrides follow a verb: isoflop train {word}" if "=" in word else ""
    return f"{word}: no such verb{nearest(word, VERBS)}; isoflop --help names all{hint}"


def _failed(error: Exception) -> int:
    """The exit code of an error of ours, which is told, or of an interruption that a library turned into one."""
    if (interruption := behind(error)) is not None:
        return interrupted(interruption)
    tell_fault(error)
    return ExitCode.FAILED


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # bytes of a command line that are no UTF-8
        return False
    return True


def _stands_somewhere() -> None:
    """Raise UserError where the folder that the command was given in is deleted."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the working directory cannot be used ({error.strerror}); cd to another one") from None


def version() -> str:
    """`isoflop <version>`, and a line with the versions that a report of a bug needs; imports none of them."""
    import platform
    from importlib import metadata

    below = [f"Python {platform.python_version()}"]
    for name in ("torch", "deepspeed", "triton"):
        try:
            below.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            below.append(f"{name} not installed")
    return f"isoflop {__version__}\n{', '.join(below)}"
