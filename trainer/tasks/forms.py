"""Records of prompts and answers as people's files have them: their form is told by their keys, or named.

    prompt_completion  {"prompt", "completion"}: files that GPT-3 was fine-tuned with (OpenAI's tools)
    alpaca             {"instruction", "input", "output"} (Taori et al. 2023); its two templates, with headings as there
    messages           {"messages": [{"role", "content"}, ...]}: conversations, as chat templates take them
    sharegpt           {"conversations": [{"from", "value"}, ...]} (Chiang et al. 2023, Vicuna)
    inputs_targets     {"inputs", "targets"}: T5's and FLAN's pairs of texts (Raffel et al. 2020; Wei et al. 2022)
    tsv                a line `inputs<tab>targets` without a line of names, as T5's own tools read them; always named

A conversation is as many examples as it has answers: each is learned behind all that was said before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trainer.descriptions.tasks.forms import FORM_KEYS, UNNAMED, FormName, listed
from trainer.tasks.records import Record, each, read_records, split
from trainer.utils.errors import UserError, nearest

ASSISTANT = "assistant"
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": ASSISTANT}  # of `messages`
SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": ASSISTANT, "assistant": ASSISTANT}  # sharegpt
# Alpaca's headings belong to the form; the sentences above them are ours.
ALPACA = "Here is a task. Write what it asks for.\n\n### Instruction:\n{}\n\n### Response:"
ALPACA_WITH_INPUT = (
    "Here is a task, and what it is about. Write what it asks for.\n\n"
    "### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:"
)


class Turn(NamedTuple):
    """One message of a conversation. role: system, user or assistant."""

    role: str
    text: str


Prompt = str | tuple[Turn, ...]  # a text, or what was said so far


@dataclass(frozen=True)
class Exchanges:
    """Records of one form, as prompts with answers: each has the fields `prompt`, a Prompt, and `answer`, a text."""

    form: FormName
    train: list[Record]
    held_out: list[Record]

    @property
    def text(self) -> str:
        """Which form it is, for a person."""
        return f"form {self.form} ({', '.join(FORM_KEYS[self.form])})"


def read_exchanges(
    train: Iterable[str], held_out: Iterable[str], form: FormName | None, share: float, key: str
) -> Exchanges:
    """The records of files in one form. form: None: their keys tell. share: that is held out where no files are.

    A conversation is held out as a whole. key: who named the files, for errors. Raises UserError with a line for each
    record (up to eight) that is not of that form: file, line, what is there and what is wanted.
    """
    columns = FORM_KEYS["tsv"] if form == "tsv" else None
    records, files = read_records(train, key, columns), [*held_out]
    apart = read_records(files, key, columns) if files else []
    found = form or _recognised(records[0], key)
    each(lambda record: _check_form(record, found), {one.where: one for one in [*records, *apart]}.values())
    both = (records, apart) if files else split(records, (), share, key)
    made = [[one for several in each(READERS[found], part) for one in several] for part in both]
    return Exchanges(found, *made)


def _recognised(record: Record, key: str) -> FormName:
    """The form that has the keys of this record."""
    fitting = [name for name, keys in FORM_KEYS.items() if name not in UNNAMED and record.fields.keys() >= set(keys)]
    if len(fitting) == 1:
        return fitting[0]
    has = ", ".join(map(str, record.fields)) or "none"
    form = f"{key.rpartition('.')[0] or key}.form"
    if fitting:
        raise UserError(f"{record.where}: its keys {has} fit the forms {' and '.join(fitting)}; name one by {form}")
    wanted = {key for keys in FORM_KEYS.values() for key in keys}
    near = next(filter(None, (nearest(str(one), wanted) for one in record.fields if one not in wanted)), "")
    halves = [name for name in FORM_KEYS if name not in UNNAMED and set(FORM_KEYS[name]) & record.fields.keys()]
    if halves and not near:
        lacking = ", ".join(one for one in FORM_KEYS[halves[0]] if one not in record.fields)
        near = f", of {halves[0]} it lacks {lacking}"
    tabs = f"; lines of two texts without names: {form}=tsv" if ".tsv:" in record.where else ""
    raise UserError(
        f"{record.where}: its keys {has} are of no form of prompts and answers{near}; there is {listed()}{tabs}"
    )


def _check_form(record: Record, form: FormName) -> None:
    """Raise UserError where the record lacks a key of the form."""
    missing = [name for name in FORM_KEYS[form] if name not in record.fields]
    others = [name for name, keys in FORM_KEYS.items() if name not in UNNAMED and record.fields.keys() >= set(keys)]
    if missing and others:
        keys = ", ".join(map(str, record.fields))
        raise UserError(
            f"{record.where}: {keys} given, the form {others[0]}; the records are of the form {form} "
            f"({', '.join(FORM_KEYS[form])}): put each form in files and a task of its own"
        )
    for name in missing:
        record.get(name)


def _exchange(record: Record, prompt: Prompt, answer: str, where: str | None = None) -> Record:
    return Record({"prompt": prompt, "answer": answer}, where or record.where)


def _pair(prompt: str, answer: str) -> Callable[[Record], list[Record]]:
    """Of records that have the two texts as fields."""
    return lambda record: [_exchange(record, record.text(prompt), record.text(answer))]


def _alpaca(record: Record) -> list[Record]:
    instruction, given = record.text("instruction"), record.fields.get("input")
    empty = given is None or (isinstance(given, str) and not given.strip())
    prompt = ALPACA.format(instruction) if empty else ALPACA_WITH_INPUT.format(instruction, record.text("input"))
    return [_exchange(record, prompt, record.text("output"))]


def _conversation(field: str, role: str, text: str, roles: dict[str, str]) -> Callable[[Record], list[Record]]:
    """Of records whose field lists messages with these two keys. roles: what is written for a role -> the role."""

    def turns(record: Record) -> Iterator[tuple[str, Turn]]:
        said = record.get(field)
        if not isinstance(said, list) or not said:
            raise UserError(f"{record.where}: {field}: {_kind(said)} found, a list of messages wanted")
        for number, message in enumerate(said, 1):
            where = f"{record.where}: {field}: message {number}"
            if not isinstance(message, dict):
                raise UserError(f"{where}: {_kind(message)} found, an object with {role} and {text} wanted")
            one = Record(message, where)
            speaker = one.text(role)
            if speaker not in roles:
                raise UserError(f"{where}: {role}: {speaker!r} is none of {', '.join(roles)}{nearest(speaker, roles)}")
            yield where, Turn(roles[speaker], one.text(text))

    def exchanges(record: Record) -> list[Record]:
        places, said = zip(*turns(record), strict=True)
        if said[0].role == ASSISTANT:
            raise UserError(f"{places[0]}: an answer that nothing was asked before; a prompt wanted")
        if said[-1].role != ASSISTANT:
            raise UserError(f"{places[-1]}: the last message is the {said[-1].role}'s; an answer to learn wanted")
        answers = [number for number, turn in enumerate(said) if turn.role == ASSISTANT]
        return [_exchange(record, said[:number], said[number].text, places[number]) for number in answers]

    return exchanges


def _kind(value: object) -> str:
    return "an empty list" if value == [] else type(value).__name__


READERS: dict[FormName, Callable[[Record], list[Record]]] = {
    "alpaca": _alpaca,
    "inputs_targets": _pair("inputs", "targets"),
    "messages": _conversation("messages", "role", "content", ROLES),
    "prompt_completion": _pair("prompt", "completion"),
    "sharegpt": _conversation("conversations", "from", "value", SPEAKERS),
    "tsv": _pair("inputs", "targets"),
}


def spoken(prompt: Prompt) -> Sequence[Turn]:
    """The turns of a prompt; a text is one of the user's."""
    return (Turn("user", prompt),) if isinstance(prompt, str) else prompt


def said(prompt: Prompt) -> str:
    """A prompt as one text, its turns as lines."""
    return "\n".join(turn.text for turn in spoken(prompt))
