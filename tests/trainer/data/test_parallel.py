"""Parallel text: what is paired, what is left out and said, and pairs as samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainer.config import Config
from trainer.data import Samples, Tokenizer, prepare
from trainer.data.pair_layout import Pairs
from trainer.data.shards import TokenStream
from trainer.tasks.shipped import make_records
from trainer.utils.errors import UserError

WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "el", "im")]
LENGTH = 32


def sentence(number: int, mark: str) -> str:
    """What text `number` says in a language, in words of that language alone."""
    return " ".join(f"{mark}{WORDS[(number * 7 + k * k * 5) % len(WORDS)]}" for k in range(3 + number % 7))


def page(numbers, mark):
    return "\n\n".join(sentence(number, mark) for number in numbers) + "\n"


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Folders de, en and fr: 30 pages of 4 paragraphs; of en one page has a paragraph more, of fr one is missing."""
    root = tmp_path_factory.mktemp("parallel")
    for language, mark in (("de", "x"), ("en", "y"), ("fr", "z")):
        (root / language).mkdir()
        for number in range(30):
            some = range(number * 4, number * 4 + 4 + (language == "en" and number == 3))
            if not (language == "fr" and number == 5):
                (root / language / f"p{number:02}.txt").write_text(page(some, mark))
    return root


def config_of(cache, parallel, *, model=None, objective=None, **data):
    given = {"name": "parallel", "document": "paragraph", "sequence_length": LENGTH, "held_out": 0.1}
    given |= {"parallel": {name: str(path) for name, path in parallel.items()}, **data}
    return Config.model_validate(
        {
            "model": {"family": "encoder", **(model or {})},
            "objective": {"name": "tlm", **(objective or {})},
            "data": given,
            "tokenizer": {"vocabulary": 480},
            "run": {"cache": str(cache)},
        }
    )


@pytest.fixture(scope="session")
def config(pages, cache):
    languages = {name: pages / name for name in ("de", "en", "fr")}
    return config_of(cache, languages, pivot="en", model={"languages": ["fr", "de", "en"]})


@pytest.fixture(scope="session")
def prepared(config):
    return prepare(config)


def sides(prepared, config, split, origin):
    """The texts of the documents of a pair of languages."""
    stream = TokenStream(prepared, split, origin)
    ends = np.append(stream.starts[1:], len(stream))
    tokenizer = Tokenizer(prepared.tokenizer_file)
    texts = [tokenizer.decode(stream.stretches(np.array([a + 1]), np.array([b - a - 2])))
             for a, b in zip(stream.starts, ends, strict=True)]  # fmt: skip
    return list(zip(texts[::2], texts[1::2], strict=True))


def test_paragraphs_of_pages_of_one_name_are_paired(config, prepared):
    for origin, marks, pages_read in (("de-en", "yx", 29), ("en-fr", "yz", 28)):
        found = [pair for split in ("train", "held_out") for pair in sides(prepared, config, split, origin)]
        assert len(found) == 4 * pages_read
        numbers = set()
        for first, second in found:  # the pivot first
            number = next(n for n in range(200) if sentence(n, marks[0]) == first)
            assert second == sentence(number, marks[1])
            numbers.add(number)
        left = {3} if origin == "de-en" else {3, 5}
        assert numbers == {number for number in range(120) if number // 4 not in left}


def test_what_is_left_out_is_said(config, prepared):
    report = prepared.report
    assert report["pairs"]["de-en"] == {
        **{"pages": 29, "paired": 116, "blank": 0, "unequal": 1},
        "examples": ["p03.txt (5 in en, 4 in de)"],
    }
    assert report["pairs"]["en-fr"]["paired"] == 112
    assert report["notes"] == ["data.parallel: 1 pages are in en and not in fr, and are not read: p05.txt"]
    card = Path(report["card"]).read_text()
    assert "116" in card and "p03.txt (5 in en, 4 in de)" in card and "de-en" in card


def test_a_text_of_the_pivot_is_on_one_side_in_all_pairs(config, prepared):
    def seen(split):
        return {first for origin in ("de-en", "en-fr") for first, _ in sides(prepared, config, split, origin)}

    assert seen("train") and seen("held_out") and not seen("train") & seen("held_out")


def test_a_shipped_task_holds_out_both_texts_of_a_pair(tmp_path, cache):
    for language in ("de", "en"):
        (tmp_path / language).mkdir()
        for number in range(40):
            lines = [f"{sentence(number + k, language)}\n" for k in range(6)]
            (tmp_path / language / f"{number}.txt").write_text("".join(lines))
    config = config_of(cache, {name: tmp_path / name for name in ("de", "en")}, document="file", held_out=0.3)
    train, held_out = ({record.where for record in part} for part in make_records(config, "swapped"))
    assert train and held_out and not train & held_out  # a pair's two texts have one name


@pytest.mark.parametrize("packing", ["packed", "padded", "best_fit"])
def test_every_pair_is_read_once_an_epoch_and_whole(config, prepared, packing):
    """Both sides in one row, languages and positions of each, and nothing but the hidden tokens is changed."""
    config = config.model_copy(update={"data": config.data.model_copy(update={"packing": packing})})
    samples = Samples(prepared, config, "train")
    bos, eos, table = prepared.bos, prepared.eos, config.model.languages
    whole = samples.sample_ranges[0].chunker
    batch = whole.objective.apply(samples.window(0, 1)) if packing == "padded" else samples.batch(0, 1)
    assert {"tokens", "targets", "segments", "positions", "languages"} == set(batch)
    found = []
    for part in whole.parts:
        place = np.arange(part.n)
        tokens, lengths, _ = part.chunks.texts(np.arange(part.chunks.count(whole=True)))
        found.append((len(lengths), int((tokens == bos).sum())))
        assert place.size and (lengths <= LENGTH - 2).all()
        sizes = part.chunks.lengths()
        assert np.array_equal(sizes, lengths)
    pairs = [len(sides(prepared, config, "train", origin)) for origin in ("de-en", "en-fr")]
    assert [count for count, _ in found] == [one for _, one in found] and all(
        count >= pair for (count, _), pair in zip(found, pairs, strict=True)
    )
    batch = samples.batch(0, 64)
    tokens = np.where(batch["targets"] >= 0, batch["targets"], batch["tokens"])
    for row in range(64):
        for segment in range(batch["segments"][row].max() + 1):
            inside = batch["segments"][row] == segment
            text, places, told = tokens[row, inside], batch["positions"][row, inside], batch["languages"][row, inside]
            cut = np.flatnonzero(text == bos)
            assert len(cut) == 2 and cut[0] == 0 and text[cut[1] - 1] == text[-1] == eos
            assert places.tolist() == [*range(cut[1]), *range(len(text) - cut[1])]
            names = [{table[told[k]] for k in part} for part in (range(cut[1]), range(cut[1], len(text)))]
            assert names[0] == {"en"} and names[1] in ({"de"}, {"fr"})
    hidden = (batch["targets"] >= 0).sum() / (batch["segments"] >= 0).sum()
    assert 0.08 < hidden < 0.16


def test_a_model_without_languages_is_told_the_sides_by_token_types(config, prepared):
    def batch(**model):
        plain = config.model.model_copy(update={"languages": (), **model})
        return Samples(prepared, config.model_copy(update={"model": plain}), "train").batch(0, 8)

    assert "token_types" not in batch() and "languages" not in batch() and "token_types" not in batch(token_types=1)
    typed, told = batch(token_types=2), Samples(prepared, config, "train").batch(0, 8)
    assert np.array_equal(typed["token_types"] == 1, (told["languages"] != 2) & (told["segments"] >= 0))
    assert all(np.array_equal(typed[name], told[name]) for name in ("tokens", "targets", "positions", "segments"))


def test_a_pair_that_is_too_long_is_cut_on_both_sides_alike():
    """Of 50 and 25 tokens in chunks of 12: every chunk has twice as many of the first side, and nothing is lost."""

    class Stream:
        starts, dtype = np.array([0, 52, 79, 84]), np.dtype(np.int64)
        tokens = np.concatenate([[1, *range(100, 150), 2], [1, *range(200, 225), 2], [1, 5, 6, 7, 2], [1, 8, 9, 2]])

        def __len__(self):
            return len(self.tokens)

        def stretches(self, begin, lengths):
            parts = [self.tokens[a : a + n] for a, n in zip(begin.tolist(), lengths.tolist(), strict=True)]
            return np.concatenate([self.tokens[:0], *parts])

    layout = Pairs(Stream(), np.array([False, True, False, True]), 12, 0, (2, 1))
    tokens, lengths, _ = layout.texts(np.arange(layout.count(whole=True)))
    parts = np.split(tokens, lengths.cumsum()[:-1])
    assert all(len(part) <= 12 for part in parts) and np.array_equal(lengths, layout.lengths())
    cut = [np.flatnonzero(part == 2)[0] for part in parts]
    assert all(part[at + 1] == 1 for part, at in zip(parts, cut, strict=True))
    first = np.concatenate([part[:at] for part, at in zip(parts, cut, strict=True)])
    second = np.concatenate([part[at + 2 :] for part, at in zip(parts, cut, strict=True)])
    assert first.tolist() == [*range(100, 150), 5, 6, 7] and second.tolist() == [*range(200, 225), 8, 9]
    for part, at in list(zip(parts, cut, strict=True))[:-1]:
        a, b = at, len(part) - at - 2
        assert abs(a - 2 * b) <= 2
    assert layout.document(np.arange(len(parts))).tolist() == [0] * (len(parts) - 1) + [2]
    past, none, _ = layout.texts(np.array([len(parts), len(parts) + 5]))
    assert not len(past) and none.tolist() == [0, 0]
    rows = layout.cut(np.array([0, len(parts)]))
    assert (rows.segments[1] == -1).all() and rows.tokens[0, : lengths[0]].tolist() == parts[0].tolist()


def test_monolingual_text_has_its_share(pages, cache):
    """MLM on single texts and TLM on pairs, by data.parallel_share, exactly."""
    languages = {name: pages / name for name in ("de", "en")}
    source = {"mono": {"path": [str(pages / "fr")], "language": "fr"}}
    config = config_of(cache, languages, sources=source, parallel_share=0.25, model={"languages": ["de", "en", "fr"]})
    prepared = prepare(config)
    samples = Samples(prepared, config, "train")
    assert samples.mixture.realised(0, 10_000) == {"de-en": 2500, "mono": 7500}
    batch = samples.batch(0, 64)
    single = (batch["languages"] == 2) & (batch["segments"] >= 0)
    assert (
        single.any()
        and not (single.any(axis=1) & ((batch["languages"] < 2) & (batch["segments"] >= 0)).any(axis=1)).any()
    )
    assert ((batch["tokens"] == prepared.bos) & single).any()  # <s> is told its language, too
    assert {name: len(Samples(prepared, config, "held_out", name)) > 0 for name in ("de-en", "mono")} == {
        "de-en": True,
        "mono": True,
    }


def test_masked_lm_of_a_model_with_languages(pages, cache):
    """Each text by itself, also of a parallel text, with its language."""
    languages = {name: pages / name for name in ("de", "en")}
    config = config_of(cache, languages, objective={"name": "masked_lm"}, model={"languages": ["en", "de"]})
    prepared = prepare(config)
    batch = Samples(prepared, config, "train").batch(0, 32)
    tokenizer = Tokenizer(prepared.tokenizer_file)
    seen = set()
    for row in range(32):
        for segment in range(batch["segments"][row].max() + 1):
            inside = batch["segments"][row] == segment
            text = tokenizer.decode(
                np.where(batch["targets"] >= 0, batch["targets"], batch["tokens"])[row, inside][1:-1]
            )
            (told,) = set(batch["languages"][row, inside].tolist())
            assert text.strip()[0] in "xy"[1 - told :] or text.strip()[0] not in "xy"
            seen.add(told)
    assert seen == {0, 1}


@pytest.mark.parametrize("kind", ["jsonl", "nested", "tsv", "lines"])
def test_other_forms_of_pairs(kind, tmp_path, cache):
    """Records with a field a language, a table, and two files whose lines belong together: the same corpus."""
    pairs = [(sentence(n, "x"), sentence(n, "y")) for n in range(60)] + [("", "nothing there"), ("nur hier", " ")]
    data, given = {}, {"de": tmp_path / "both.jsonl", "en": tmp_path / "both.jsonl"}
    if kind == "jsonl":
        rows = [json.dumps({"id": 1, "de": a, "en": b or None}) for a, b in pairs]
        (tmp_path / "both.jsonl").write_text("\n".join(rows))
    elif kind == "nested":
        data["field"] = "translation"
        rows = [json.dumps({"translation": {"en": b, "de": a}}) for a, b in pairs]
        (tmp_path / "both.jsonl").write_text("\n".join(rows))
    elif kind == "tsv":
        given = dict.fromkeys(given, tmp_path / "both.tsv")
        (tmp_path / "both.tsv").write_text("\n".join(["en\tid\tde", *(f"{b}\t7\t{a}" for a, b in pairs), "\n"]))
    else:
        data["document"] = "line"
        given = {"de": tmp_path / "corpus.de", "en": tmp_path / "corpus.en"}
        for side, file in enumerate(given.values()):
            file.write_text("\n".join(pair[side] for pair in pairs) + "\n")
    prepared = prepare(config_of(cache, given, **data))
    account = prepared.report["pairs"]["de-en"]
    assert (account["paired"], account["blank"], account["unequal"]) == (60, 2, 0)
    assert prepared.train.documents + prepared.held_out.documents == 120
    assert prepared.fingerprint == prepare(config_of(cache, given, **data)).fingerprint


# --- bad input -------------------------------------------------------------------------------------------------------


def refused(cache, parallel, **data):
    with pytest.raises((UserError, ValueError)) as error:
        prepare(config_of(cache, parallel, **data))
    return str(error.value)


def test_files_without_a_language(tmp_path, cache):
    file = tmp_path / "both.jsonl"
    file.write_text('{"de": "a", "en": "b"}\n{"de": "c", "eng": "d"}\n')
    assert "both.jsonl line 2 has no language 'en'" in (said := refused(cache, {"de": file, "en": file}))
    assert "did you mean" in said and "eng" in said
    table = tmp_path / "both.tsv"
    table.write_text("de\tfr\na\tb\n")
    assert "its first line names no column 'en'" in refused(cache, {"de": table, "en": table})
    table.write_text("de\ten\na\tb\tc\n")
    assert "line 2 has 3 columns, not 2" in refused(cache, {"de": table, "en": table})
    text = tmp_path / "both.txt"
    text.write_text("a\n\nb\n")
    assert "is no file of records" in refused(cache, {"de": text, "en": text})


def test_two_files_that_are_one_page(tmp_path, cache):
    for name in ("de/ls.1.txt", "en/a/ls.1.txt", "en/b/ls.en.1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a text\n")
    said = refused(cache, {"de": tmp_path / "de", "en": f"{tmp_path}/en/*"})
    assert "en/a/ls.1.txt and" in said and "en/b/ls.en.1.txt are both the page ls.1.txt" in said


def test_unequal_files_and_pages_that_stand_alone(tmp_path, cache):
    for language, paragraphs in (("de", 3), ("en", 4)):
        (tmp_path / f"page.{language}").write_text(page(range(paragraphs), language))
        (tmp_path / language).mkdir()
        (tmp_path / language / f"only-{language}.txt").write_text("a text\n")
    said = refused(cache, {"de": tmp_path / "page.de", "en": tmp_path / "page.en"})
    assert "page.de (3 in de, 4 in en)" in said and "nothing is left to read" in said and len(said.splitlines()) == 1
    (tmp_path / "en" / "other.txt").write_text("a text\n")
    said = refused(cache, {"de": tmp_path / "de", "en": tmp_path / "en"})
    assert "no page of the same name" in said and "only-de.txt" in said and "only-en.txt" in said


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"parallel": {"de": "de/"}}, "two languages or more, de alone is given"),
        ({"parallel": {"de": "de/", "en": "en/"}, "pivot": "fr"}, "no language 'fr'; there are de, en"),
        ({"parallel": {"de": "de/", "e n": "en/"}}, "'e n' names no language"),
        ({"name": "text", "path": ["x"], "parallel": {"de": "x", "en": "x"}}, "only data=parallel reads it"),
        ({"parallel": {"de": "de/", "en": "en/"}, "parallel_share": 0.9}, "without data.sources"),
        (
            {"parallel": {"de": "de/", "en": "en/"}, "sources": {"de-en": {"path": ["x"]}}},
            "a pair of data.parallel has that name",
        ),
        ({"name": "text", "path": ["x"], "parallel": {}}, "objective=tlm reads pairs of texts, data=text has none"),
    ],
)
def test_configurations_that_cannot_be(data, words):
    with pytest.raises(ValueError, match=words):
        Config.model_validate(
            {"model": {"family": "encoder"}, "objective": {"name": "tlm"}, "data": {"name": "parallel", **data}}
        )


def test_a_language_that_the_model_lacks(cache, pages):
    parallel = {name: pages / name for name in ("de", "en")}
    with pytest.raises(
        ValueError, match=r"data\.parallel\.de: the model has no language 'de'.*model\.languages has en, fr"
    ):
        config_of(cache, parallel, model={"languages": ["en", "fr"]})
    for languages, words in ((["en"], "en alone tells the model nothing"), (["en", "de", "en"], "more than once")):
        with pytest.raises(ValueError, match=words):
            config_of(cache, parallel, model={"languages": languages})
    with pytest.raises(ValueError, match="only an encoder is told the language"):
        Config.model_validate({"model": {"languages": ["en", "de"]}})
    with pytest.raises(ValueError, match="objective=unilm does not tell the model the language"):
        config_of(cache, parallel, model={"languages": ["en", "de"]}, objective={"name": "unilm"})
    mono = {"x": {"path": [str(pages / "fr")]}}
    config = config_of(cache, parallel, sources=mono, model={"languages": ["en", "de"]})
    with pytest.raises(UserError, match=r"needs the language of every text; state data\.sources\.x\.language"):
        Samples(prepare(config), config, "train")
