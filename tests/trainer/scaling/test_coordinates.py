"""muP keeps the size of what training changes, whatever the width, and CompleteP whatever the depth; the standard
parametrization does not."""

from __future__ import annotations

import pytest

from trainer.compose import compose
from trainer.config import Config
from trainer.scaling.coordinates import coordinate_check

WIDTHS = (64, 128, 256, 512, 1024)
TERMS = ["model.sinks=true", "model.score_softcap=20", "model.logit_softcap=30", "objective.z_loss=1e-3"]


def slopes(preset, mup, widths=WIDTHS, **more):
    words = [f"model={preset}", "model.depth=2", "model.vocabulary=512", "tokenizer.vocabulary=512"]
    words += ["data.sequence_length=16", "optim.lr=0.01", "optim.weight_decay=0", "model.kv_heads=null"]
    words += ["model.width=64", "model.heads=2", "model.head_size=32", "model.ffn_width=128", *more.get("words", [])]
    plain = compose(words).model_dump(mode="json")

    def config_of(width):
        shape = {"width": width, "heads": width // 32, "ffn_width": 2 * width, "mup_base_width": 64 if mup else None}
        return Config.model_validate({**plain, "model": {**plain["model"], **shape}})

    return coordinate_check(config_of, widths, updates=4).slopes()


@pytest.mark.parametrize(
    "preset, words",
    [
        ("llama-mini", []),
        ("llama-mini", TERMS),
        ("gpt-mini", ["model.tied=false"]),
        ("bert-base", ["objective=masked_lm"]),
    ],
)
def test_flat_under_mup_and_growing_without(preset, words):
    mup, standard = slopes(preset, True, words=words), slopes(preset, False, words=words)
    assert max(map(abs, mup.values())) < 0.2, mup
    assert standard["logits"] > 0.4, standard


@pytest.mark.parametrize("preset, objective", [("bart-base", "bart"), ("t5-small", "span_corruption")])
def test_nothing_grows_in_encoder_decoders(preset, objective):
    """T5's embedding is so large that its logits hardly move at first, and the less the wider."""
    found = slopes(preset, True, (64, 128, 256, 512), words=[f"objective={objective}"])
    assert {part.split()[0] for part in found} == {"encoder", "decoder", "logits"}
    assert max(found.values()) < 0.2, found
    assert max(abs(slope) for part, slope in found.items() if part != "logits") < 0.2, found


def test_heads_that_grow_are_flat_with_their_base_size():
    """Two heads at every width: what falls as 1 / head_size is the scores."""
    plain = compose(["model.width=64", "model.heads=2", "model.kv_heads=2", "model.depth=2", "model.vocabulary=2048"])
    plain = plain.model_dump(mode="json")

    def config_of(width):
        shape = {"width": width, "head_size": None, "mup_base_width": 64, "mup_base_head_size": 32}
        data = {**plain["data"], "sequence_length": 16}
        return Config.model_validate({**plain, "data": data, "model": {**plain["model"], **shape}})

    found = coordinate_check(config_of, (64, 256, 512)).slopes()
    assert max(map(abs, found.values())) < 0.2, found


# --- depth ----------------------------------------------------------------------------------------------------

DEPTHS = (2, 4, 8, 16)


def depth_slopes(preset, base, *more):
    words = [f"model={preset}", "model.depth=2", "model.vocabulary=512", "tokenizer.vocabulary=512", "model.width=32"]
    words += ["data.sequence_length=16", "model.kv_heads=null", "model.heads=2", "model.head_size=16"]
    plain = compose([*words, "model.ffn_width=64", "optim.weight_decay=0", *more]).model_dump(mode="json")

    def config_of(depth):
        return Config.model_validate({**plain, "model": {**plain["model"], "depth": depth, "mup_base_depth": base}})

    return coordinate_check(config_of, DEPTHS, deeper=True).slopes()


@pytest.mark.parametrize("preset, words", [("llama-mini", []), ("gpt-mini", ["model.tied=false"])])
def test_flat_over_depth_under_completep_and_growing_without(preset, words):
    scaled, standard = (depth_slopes(preset, base, "optim.lr=0.01", *words) for base in (2, None))
    assert max(map(abs, scaled.values())) < 0.15, scaled
    assert standard["last block"] > 1, standard


@pytest.mark.parametrize("name, lr", [("lion", 1e-3), ("muon", 1e-2), ("sgd", 0.1)])
def test_other_optimizers_are_flat_too(name, lr):
    scaled, standard = (depth_slopes("llama-mini", base, f"optim={name}", f"optim.lr={lr}") for base in (2, None))
    assert max(map(abs, scaled.values())) < 0.15, scaled
    assert standard["last block"] > scaled["last block"] + 0.1, (standard, scaled)


def test_nothing_grows_with_the_depth_in_encoder_decoders():
    """T5's weights begin large, and what they put into the residual stream at first falls with the depth."""
    words = ("objective=span_corruption", "optim.lr=0.01")
    found = depth_slopes("t5-small", 2, *words)
    assert {part.split()[0] for part in found} == {"encoder", "decoder", "logits"}
    assert min(found.values()) > -0.4 and max(found.values()) < 0.15, found
    assert min(slope for part, slope in depth_slopes("t5-small", None, *words).items() if part != "logits") > 0.8
