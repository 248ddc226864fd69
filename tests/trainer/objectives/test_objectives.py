"""What holds for every objective."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.config import Config
from trainer.descriptions.objectives import OBJECTIVES
from trainer.objectives import Vocabulary, objective
from trainer.utils.errors import UserError

RECIPES = {
    "causal": {"name": "causal"},
    "prefix_lm": {"name": "prefix_lm"},
    "fim": {"name": "fim", "rate": 0.5},
    "roberta": {"name": "masked_lm"},
    "bert": {"name": "masked_lm", "masks": "static", "question": "nsp"},
    "whole_word": {"name": "masked_lm", "unit": "word"},
    "albert": {"name": "masked_lm", "unit": "ngram", "question": "sop"},
    "electra": {"name": "replaced_token", "mask_share": 0.85, "random_share": 0.0},
    "xlnet": {"name": "permuted_lm", "rate": 1 / 6, "longest": 5},
    "unilm": {"name": "unilm"},
    "mass": {"name": "mass", "rate": 0.5},
    "bart": {"name": "bart", "noises": ("sentence_permutation", "text_infilling"), "rate": 0.3, "unit": "word"},
    "pegasus": {"name": "gap_sentences", "rate": 0.3, "kept_share": 0.2},
    "t5": {"name": "span_corruption"},
    "ul2": {"name": "ul2"},
}


def batch_of(recipe, make, window, text, first=0, rows=12):
    built = make(96, **RECIPES[recipe])
    whole = window(text(40, built.length), first=0)
    pick = slice(first, first + rows)
    cut = replace(
        whole,
        **{name: getattr(whole, name)[pick] for name in ("tokens", "segments", "positions", "index", "place", "epoch")},
    )
    if built.partner:
        cut = replace(cut, partner=window(text(40, built.length, seed=1)[pick]), other_document=np.ones(rows, bool))
    return built.apply(cut)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_sample_depends_on_itself_alone(recipe, make, window, text):
    together = batch_of(recipe, make, window, text, 0, 30)
    for first, rows in ((0, 1), (7, 5), (29, 1)):
        for name, array in batch_of(recipe, make, window, text, first, rows).items():
            assert np.array_equal(array, together[name][first : first + rows]), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_keys_and_types(recipe, make, window, text):
    batch = batch_of(recipe, make, window, text)
    types = {"segments": "int32", "source_segments": "int32", "order": "int32"}
    assert {name: array.dtype.name for name, array in batch.items()} == {
        name: types.get(name, "int64") for name in batch
    }
    wanted = {"tokens", "targets", "segments", "positions"}
    encoder_decoder = recipe in ("mass", "bart", "pegasus", "t5", "ul2")
    if encoder_decoder:
        wanted |= {"source_tokens", "source_segments", "source_positions"}
    assert wanted <= set(batch) and (batch["tokens"].shape == batch["targets"].shape == batch["segments"].shape)
    assert batch["source_tokens" if encoder_decoder else "tokens"].shape == (12, 96)
    assert (batch["targets"] != -100).any(axis=1).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_noise_never_moves(recipe, make, window, text):
    """Golden hashes: a change here changes the noise of every run that is resumed."""
    built = make(96, **RECIPES[recipe])
    tokens = 200 + (np.arange(8 * built.length).reshape(8, -1) * 7919) % 900
    given = window(tokens, first=10**6, seed=42)
    if built.partner:
        given = replace(given, partner=window(tokens[::-1]), other_document=np.ones(8, bool))
    digest = hashlib.sha256()
    for name, array in sorted(built.apply(given).items()):
        digest.update(name.encode() + array.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == GOLDEN[recipe]


GOLDEN = {
    "causal": "14d9fc0c257ccea2",
    "prefix_lm": "a7b88b45f947bd45",
    "fim": "220d125fe1eb982c",
    "roberta": "f55a72155afa79c8",
    "bert": "19d0bac99d2d119f",
    "whole_word": "6b65e58d15e3078f",
    "albert": "cd7be031967d2ee0",
    "electra": "5ef83e52b63b5e8a",
    "xlnet": "50ca0e64c83f35a9",
    "unilm": "49333b12537ef3c3",
    "mass": "fb128c3e84cffb9f",
    "bart": "ee711dc63ab96c86",
    "pegasus": "9de5ebd7f9683f87",
    "t5": "a51e3f731f6336b1",
    "ul2": "4905aaa5f9f6af6a",
}


@pytest.mark.parametrize("length", [16, 96, 97])
@pytest.mark.parametrize(
    "keys",
    [
        {"name": "span_corruption"},
        {"name": "span_corruption", "rate": 0.5},  # where T5 takes one token of text less
        {"name": "span_corruption", "rate": 0.5, "mean_span": 8.0},
        {"name": "ul2"},
        {"name": "mass", "rate": 0.3},
        {"name": "gap_sentences"},
        {"name": "bart", "noises": ("text_infilling",)},
    ],
)
def test_the_description_knows_how_much_the_decoder_reads(keys, length, make, window, text):
    built = make(length, **keys)
    width = built.apply(window(text(3, built.length)))["tokens"].shape[1]
    group = Config.model_validate({"objective": keys}).objective
    assert group.description.target_length(group, length) == width


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_description_has_its_implementation(name):
    assert callable(OBJECTIVES.implementation(name))


def test_a_model_of_another_family_is_refused(vocabulary):
    for keys, families in (({"name": "masked_lm"}, "encoder"), ({"name": "ul2"}, "encoder_decoder")):
        config = Config.model_validate({"objective": keys, "budget": {"steps": 60}})
        with pytest.raises(
            UserError, match=f"objective={keys['name']} trains {families} models, .* of the family decoder"
        ):
            objective(config, vocabulary)


def test_a_tokenizer_without_the_special_tokens_is_refused():
    bare = Vocabulary(20, {"<pad>": 0, "<s>": 1, "</s>": 2}, lambda token: "a")
    config = Config.model_validate({"objective": {"name": "fim"}, "budget": {"steps": 60}})
    with pytest.raises(UserError, match="objective=fim: the tokenizer has no <fim_prefix>"):
        objective(config, bare)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"name": "causal", "rate": 0.3},
            "rate: objective=causal does not read it; bart, fim, gap_sentences, masked_lm",
        ),
        ({"name": "bart"}, "noises: bart needs at least one of sentence_permutation"),
        ({"name": "bart", "noises": ("infilling",)}, r"'infilling' is none of .*\(did you mean 'text_infilling'\?\)"),
        ({"name": "masked_lm", "mask_share": 0.95}, "random_share: 0.1 and mask_share 0.95 are more than 1 together"),
        ({"name": "masked_lm", "rate": 1.0}, "less than 1"),
        ({"name": "span_corruption", "mean_span": 0.5}, "greater than or equal to 1"),
    ],
)
def test_keys_that_do_not_fit(keys, message):
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"objective": keys})


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_shortest_texts(recipe, make, window, text, specials):
    """Texts of 0, 1, 2, 3 and 5 tokens: loss inside the sample alone, no special token hidden."""
    lengths = np.array([0, 1, 2, 3, 5])
    for seed in range(20):
        built = make(64, packing="padded", **RECIPES[recipe])
        tokens = text(5, built.length, seed)
        given = window(tokens, lengths, seed=seed)
        if built.partner:
            given = replace(given, partner=window(text(5, built.length, 99)), other_document=np.ones(5, bool))
        batch = built.apply(given)
        targets, inside = batch["targets"], batch["segments"] != -1
        assert not (targets[~inside] != -100).any() and not inside[0].any()
        assert (batch["tokens"][~inside] == specials["<pad>"]).all()
        if "source_tokens" in batch:
            read = batch["source_segments"] != -1
            assert not read[0].any() and read[1:].any(axis=1).all()
            assert (batch["source_tokens"][~read] == specials["<pad>"]).all()
        elif OBJECTIVES[RECIPES[recipe]["name"]].families == ("encoder",):
            hidden = targets != -100
            assert not np.isin(targets[hidden], list(specials.values())).any()
            restored = np.where(hidden, targets, batch["tokens"])
            ordinary = ~np.isin(restored, list(specials.values()))
            if not built.partner:  # a random partner brings tokens of its own
                assert ordinary.sum(axis=1).tolist() == lengths.tolist()


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_order_is_given_where_the_parts_of_a_document_say_so(recipe, make, window, text):
    description = OBJECTIVES[RECIPES[recipe]["name"]]
    ordered = len(description.parts) != 1 and "encoder_decoder" not in description.families
    assert ("order" in batch_of(recipe, make, window, text)) == ordered


@pytest.mark.parametrize("recipe", [name for name in RECIPES if OBJECTIVES[RECIPES[name]["name"]].left_to_right])
@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_rows_from_left_to_right_have_their_padding_behind(recipe, packing, make, window, text):
    built = make(64, packing=packing, **RECIPES[recipe])
    batch = built.apply(window(text(6, built.length), np.array([0, 1, 2, 40, 64, 65])))
    inside = batch["segments"] != -1
    assert (np.diff(inside.astype(int), axis=1) <= 0).all()
    assert (batch["targets"][~inside] == -100).all()
