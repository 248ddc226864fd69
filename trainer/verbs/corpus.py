"""Verbs about text: corpora and tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.errors import UserError, nearest
from trainer.verbs.words import split_flags, wants_help, whole_numbers


def data(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop data [show|card] [step=0] [samples=2] [key=value ...] [--json]\n"):
        return 0
    what = next((word for word in words if word in ("show", "card")), None)
    if what is None and (odd := [word for word in words if word.isalpha()]):
        raise UserError(f"data: {odd[0]}: there is show and card{nearest(odd[0], ('show', 'card'))}")
    if what == "show":
        return _show([word for word in words if word != what], "--json" in flags)
    if what == "card":
        return _card([word for word in words if word != what], "--json" in flags)
    from trainer.compose import compose
    from trainer.data import prepare
    from trainer.progress import progress_bar

    with progress_bar() as progress:
        prepared = prepare(compose(words), progress)
    facts = {
        "folder": str(prepared.folder),
        "fingerprint": prepared.fingerprint,
        "vocabulary": prepared.vocabulary,
        **{name: vars(getattr(prepared, name)) for name in ("train", "held_out")},
    }
    if "--json" in flags:
        print(json.dumps(facts, indent=1, default=str))
    else:
        for name in ("train", "held_out"):
            split = getattr(prepared, name)
            print(f"{name:<9} {split.documents:>9,} documents  {split.bytes:>13,} bytes  {split.tokens:>13,} tokens")
        print(f"yardstick {prepared.held_out.unigram_bits_per_byte:.3f} bits/byte (unigram entropy, held-out tokens)")
        print(f"shards    {prepared.folder}")
    return 0


def _show(words: list[str], as_json: bool) -> int:
    from trainer.compose import compose
    from trainer.data.show import format_show, show
    from trainer.progress import progress_bar

    words, numbers = whole_numbers("data show", words, step=0, samples=2)
    with progress_bar() as progress:
        shown = show(compose(words), numbers["step"], samples=numbers["samples"], progress=progress)
    print(json.dumps(shown, indent=1, ensure_ascii=False) if as_json else format_show(shown))
    return 0


def _card(words: list[str], as_json: bool) -> int:
    from trainer.compose import compose
    from trainer.data.card import format_card
    from trainer.data.verbs import card
    from trainer.progress import progress_bar

    with progress_bar() as progress:
        found = card(compose(words), progress)
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else format_card(found))
    return 0


def tokenizer(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop tokenizer [out=file.model] [key=value ...] [--json]\n"):
        return 0
    from trainer.compose import compose
    from trainer.data.verbs import format_tokenizer
    from trainer.data.verbs import tokenizer as train_tokenizer
    from trainer.progress import progress_bar

    out = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    config = compose([word for word in words if not word.startswith("out=")])
    with progress_bar() as progress:
        facts = train_tokenizer(config, Path(out[-1]) if out else None, progress)
    print(json.dumps(facts, indent=1, ensure_ascii=False) if "--json" in flags else format_tokenizer(facts))
    return 0
