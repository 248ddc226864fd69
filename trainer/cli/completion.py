"""Shell completion: verbs, groups with their options, and keys of the schema."""

from __future__ import annotations

from trainer.cli.verbs import TABLE
from trainer.utils.errors import UserError

BASH = """\
_isoflop() {
    local IFS=$'\\n'
    COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
    COMPREPLY=($(isoflop completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
}
complete -o default -F _isoflop isoflop"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n" + BASH


def script(shell: str) -> str:
    """What the shell evaluates. Raises UserError for a shell we do not know."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise UserError(f"completion: {shell}: bash and zsh are known")
    return scripts[shell]


def completion(arguments: list[str]) -> int:
    if arguments and arguments[0] == "--words":
        print("\n".join(candidates(arguments[1:], list(TABLE))))
        return 0
    if {"-h", "--help"} & set(arguments):
        print('isoflop completion bash|zsh: what the shell evaluates: eval "$(isoflop completion bash)"')
        return 0
    print(script(arguments[0] if arguments else "bash"))
    return 0


PARTS = {"data": ("show", "card", "verify")}  # of verbs that have some


def candidates(words: list[str], verbs: list[str]) -> list[str]:
    """What the last word may become."""
    from trainer.compose import groups
    from trainer.compose.json_schema import schemas
    from trainer.config.validate import keys

    word = words[-1] if words else ""
    if len(words) <= 1:
        return [verb for verb in verbs if verb.startswith(word)]
    group, equals, start = word.partition("=")
    if words[0] == "schema":
        return [name for name in [*schemas(), "out="] if name.startswith(word)]
    if equals:
        return [f"{group}={option}" for option in groups().get(group, []) if option.startswith(start)]
    names = [f"{name}=" for name in [*groups(), *keys(), "resume"]]
    if len(words) == 2:
        names = [*PARTS.get(words[0], ()), *names]
    return [name for name in names if name.startswith(word)]
