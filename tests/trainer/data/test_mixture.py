from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.config import Config
from trainer.data import Samples, Tokenizer, prepare
from trainer.data.mixture import BLOCK, Mixture, quotas
from trainer.data.summary import card, format_card
from trainer.utils.errors import UserError


def mixture(sizes, *, samples=100_000, seed=0, **keys) -> Mixture:
    """sizes: samples per epoch of each source, of 10 tokens each; a step is one sample."""
    sources = {
        name: {"path": "x", **given} for name, given in keys.pop("sources", {name: {} for name in sizes}).items()
    }
    config = Config.model_validate(
        {
            "data": {"name": "mixture", "sources": sources, "sequence_length": 10, **keys},
            "optim": {"batch_size": 1},
            "budget": {"steps": samples},
            "seed": seed,
        }
    )
    return Mixture(config, {name: 10 * n for name, n in sizes.items()}, {10: np.array(list(sizes.values()))})


def drawn(mix: Mixture, start: int, stop: int) -> np.ndarray:
    return np.bincount(mix(start, stop)[0], minlength=len(mix.names))


def test_weights_are_kept_in_every_block():
    mix = mixture(
        {"a": 50, "b": 5000, "c": 70}, sources={"a": {"weight": 0.7}, "b": {"weight": 0.2}, "c": {"weight": 0.1}}
    )
    for block in range(3):
        assert drawn(mix, block * BLOCK, (block + 1) * BLOCK).tolist() == [7000, 2000, 1000]
    for start in range(0, BLOCK, 500):  # and nearly so in any stretch: 3 sigma
        assert drawn(mix, start, start + 500)[0] == pytest.approx(350, abs=3.5 * np.sqrt(500 * 0.21))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7, 1.0])
def test_temperature(alpha):
    """p ~ size^alpha: 0.3 in XLM-R and mT5, 0.7 in mBERT."""
    sizes = {"de": 900, "en": 9000, "fr": 100}
    expected = np.array([n**alpha for n in sizes.values()])
    mix = mixture(sizes, alpha=alpha)
    assert drawn(mix, 0, BLOCK) == pytest.approx(BLOCK * expected / expected.sum(), abs=1)


def test_every_source_is_read_in_order_without_gaps():
    mix = mixture({"a": 50, "b": 80}, sources={"a": {"weight": 1.0}, "b": {"weight": 3.0}})
    source, number = mix(0, 25_000)
    for which in (0, 1):
        assert np.array_equal(number[source == which], np.arange((source == which).sum()))


def test_any_range_agrees_with_the_whole():
    stages = ({"tokens": 123_450, "weights": {"a": 1.0}}, {"tokens": 10, "weights": {"a": 1.0, "b": 1.0}})
    source, number = mixture({"a": 50, "b": 80}, stages=stages)(0, 40_000)
    mix = mixture({"a": 50, "b": 80}, stages=stages)
    for start, stop in ((9_999, 10_001), (12_344, 12_346), (0, 40_000), (22_340, 22_350), (39_999, 40_000), (5, 5)):
        for whole, part in zip((source, number), mix(start, stop), strict=True):
            assert np.array_equal(part, whole[start:stop])


def test_stages_change_the_weights_at_their_token_count():
    stages = (
        {"tokens": 150_000, "weights": {"a": 1.0}},
        {"tokens": 200_000, "weights": {"b": 1.0}},
        {"tokens": 1, "weights": {"a": 1.0, "b": 3.0}},
    )
    mix = mixture({"a": 5000, "b": 8000}, stages=stages)
    source, number = mix(0, 65_000)
    assert (source[:15_000] == 0).all() and (source[15_000:35_000] == 1).all()
    assert np.bincount(source[35_000:45_000]).tolist() == [2500, 7500]
    for which in (0, 1):  # what was read before is not read again
        assert np.array_equal(number[source == which], np.arange((source == which).sum()))
    assert mix.realised(10_000, 45_000) == {"a": 7500, "b": 27_500}
    for start, stop in ((0, 65_000), (14_999, 35_001), (36_000, 36_001)):
        assert list(mix.realised(start, stop).values()) == np.bincount(source[start:stop], minlength=2).tolist()


def test_epoch_caps_hand_the_rest_to_the_others():
    sources = {"a": {"weight": 0.5, "epochs": 2.0}, "b": {"weight": 0.25}, "c": {"weight": 0.25}}
    mix = mixture({"a": 5000, "b": 10**6, "c": 10**6}, sources=sources)
    counts = mix.realised(0, 100_000)
    assert counts["a"] == 10_000 and counts["b"] == counts["c"] == 45_000


def test_caps_hold_over_stages():
    sources = {"a": {"epochs": 1.0}, "b": {}}
    stages = tuple({"tokens": 200_000, "weights": {"a": 1.0, "b": 1.0}} for _ in range(4))
    counts = mixture({"a": 25_000, "b": 10**6}, sources=sources, stages=stages, samples=80_000).realised(0, 80_000)
    assert counts["a"] == pytest.approx(25_000, abs=4)


@pytest.mark.parametrize("samples", [37, 400, 9_999, 10_001, 123_456])
def test_no_cap_is_ever_exceeded_and_what_one_allows_is_read(samples):
    """In runs of less than a block, at any seed, and of a source that has less than one sample in a block."""
    sources = {"a": {}, "b": {"epochs": 2.0}, "c": {"epochs": 1.5}}
    for seed in range(8):
        sizes = {"a": 10**6, "b": samples // 9, "c": 6}
        mix = mixture(sizes, sources={k: {"weight": 1.0, **v} for k, v in sources.items()}, samples=samples, seed=seed)
        source, number = mix(0, samples)
        counts = np.bincount(source, minlength=3)
        for which, allowed in ((1, 2 * sizes["b"]), (2, 9)):
            assert allowed - samples // BLOCK <= counts[which] <= allowed
        assert counts.tolist() == list(mix.realised(0, samples).values())
        for which in range(3):
            assert np.array_equal(number[source == which], np.arange(counts[which]))


def test_caps_that_are_just_enough():
    mix = mixture({"a": 30_000, "b": 3_333}, sources={"a": {"epochs": 1.0}, "b": {"epochs": 1.0}}, samples=33_333)
    assert mix.realised(0, 33_333) == {"a": 30_000, "b": 3_333}


def test_caps_that_leave_too_little():
    sources = {"a": {"epochs": 1.0}, "b": {"epochs": 2.0}}
    with pytest.raises(UserError, match="the epoch caps leave 40,000 samples for the 100,000 of this run"):
        mixture({"a": 20_000, "b": 10_000}, sources=sources)


def test_quotas_sum_to_a_block():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shares = rng.dirichlet(np.full(int(rng.integers(1, 60)), 0.1))
        shares[rng.random(len(shares)) < 0.1] = 0
        if shares.sum():
            whole = quotas(shares / shares.sum())
            assert whole.sum() == BLOCK and ((whole > 0) == (shares > 0)).all()


# --- over real files -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixture")
    for name, count in (("big", 120), ("small", 30)):
        (root / name).mkdir()
        for number in range(count):
            body = "\n".join(f"{name} text {number} line {k} " + "abcdefgh"[k % 8] * (1 + k % 5) for k in range(20))
            (root / name / f"{number}.txt").write_text(body)
    return root


def config_of(files, **data) -> Config:
    sources = {name: {"path": str(files / name), **data.pop(name, {})} for name in ("big", "small")}
    return Config.model_validate(
        {
            "data": {"name": "mixture", "sources": sources, "sequence_length": 32, "held_out": 0.1, **data},
            "tokenizer": {"vocabulary": 420},
            "budget": {"steps": 200},
            "run": {"cache": str(files / "cache")},
        }
    )


def test_samples_come_from_their_sources(files):
    config = config_of(files, big={"weight": 1.0}, small={"weight": 3.0})
    prepared = prepare(config)
    assert list(prepared.manifest["splits"]["train"]["origins"]) == ["big", "small"]
    samples = Samples(prepared, config, "train")
    tokenizer = Tokenizer(prepared.tokenizer_file)
    source, _ = samples.mixture(100, 500)
    batch = samples.batch(100, 500)
    for row in range(400):
        text = tokenizer.decode(batch["tokens"][row])
        assert ("big" in text) != ("small" in text) and ("small" in text) == bool(source[row])
    for name, array in samples.batch(300, 333).items():
        assert np.array_equal(array, batch[name][200:233])
    # each source is read through before it is read again
    for which, part in enumerate(samples.sample_range(0).chunker.parts):
        mine = samples.window(0, 5000).place[samples.mixture(0, 5000)[0] == which]
        assert np.array_equal(np.sort(mine[: part.n]), part.first + np.arange(part.n))


def test_the_realised_mixture_is_counted_from_the_samples(files):
    """Per stage and source, against the sources of the samples themselves."""
    stages = [
        {"tokens": 32 * 32 * 2, "weights": {"big": 1.0, "small": 1.0}},
        {"tokens": 32 * 64 * 2, "sequence_length": 64},
        {"weights": {"small": 1.0}},
    ]
    config = config_of(files, stages=stages)
    samples = Samples(prepare(config), config, "train")
    for stop in (10, 64, 90, 128, 200):
        source, _ = samples.mixture(0, stop)
        usage = samples.usage(stop)
        for stage in config.curriculum.stages:
            first, last = 32 * stage.first, int(min(stop, 32 * stage.last))
            if first < stop:
                counted = np.bincount(source[first:last], minlength=2).tolist()
                mine = [part for part in usage if part.stage == stage.number]
                assert [part.samples for part in mine] == counted
                assert [part.tokens for part in mine] == [stage.sequence_length * count for count in counted]
                assert [part.source for part in mine] == ["big", "small"]
    said = card(config)
    assert [(r["stage"], r["source"]) for r in said["mixture"]] == [
        *((0, "big"), (0, "small"), (1, "big"), (1, "small"), (2, "big"), (2, "small"))
    ]
    assert "## Mixture that the run reads" in format_card(said)


def test_the_held_out_split_is_all_sources_in_order(files):
    config = config_of(files)
    prepared = prepare(config)
    batch = Samples(prepared, config, "held_out").batch(0, 10_000)
    assert (batch["targets"] != -100).sum() == prepared.held_out.tokens - prepared.held_out.documents
    assert (
        sum(o["tokens"] for o in prepared.manifest["splits"]["held_out"]["origins"].values())
        == prepared.held_out.tokens
    )


def test_weights_do_not_encode_anything_again(files):
    assert (
        prepare(config_of(files)).folder == prepare(config_of(files, big={"weight": 9.0}, small={"weight": 1.0})).folder
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sources": {}}, "sources: data=mixture needs at least one"),
        (
            {"sources": {"a": {"path": "x", "weight": 1.0}, "b": {"path": "x"}}},
            "of every source or of none; there is none of b",
        ),
        ({"sources": {"a": {"path": "x", "weight": -1.0}}}, "greater than or equal to 0"),
        ({"sources": {"a": {"path": "x", "weight": 0.0}}}, "all weights are 0"),
        ({"sources": {"a": {}}}, "source needs files"),
        (
            {"sources": {"news": {"path": "x"}}, "stages": [{"tokens": 5, "weights": {"new": 1.0}}]},
            r"no source 'new' \(did you mean 'news'",
        ),
        ({"sources": {"a": {"path": "x"}}, "stages": [{"tokens": 5, "weights": {"a": 0.0}}]}, "they sum to 0"),
        ({"sources": {"a": {"path": "x"}}, "stages": [{"tokens": 5, "weights": {"a": -2.0}}]}, "-2.0 is no share"),
        ({"sources": {"a": {"path": "x"}}, "path": "y"}, "the texts of a mixture stand in data.sources"),
    ],
)
def test_mixtures_that_do_not_fit(data, message):
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"data": {"name": "mixture", **data}})


def test_sources_without_a_mixture():
    with pytest.raises(ValidationError, match="only data=mixture reads sources"):
        Config.model_validate({"data": {"sources": {"a": {"path": "x"}}}})


def mbart(config: Config, symbols) -> Config:
    given = {**config.model_dump(), "objective": {"name": "mbart", "noises": ("text_infilling",)}}
    given["tokenizer"]["symbols"] = symbols
    changed = Config.model_validate(given)
    return changed.model_copy(update={"model": changed.model.model_copy(update={"family": "encoder_decoder"})})


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_every_sample_speaks_the_language_of_its_source(files, packing):
    config = mbart(
        config_of(files, big={"language": "en"}, small={"language": "de"}, packing=packing), ("<de>", "<en>")
    )
    prepared = prepare(config)
    tokenizer = Tokenizer(prepared.tokenizer_file)
    tokens = {"big": prepared.specials["<en>"], "small": prepared.specials["<de>"]}
    for split in ("train", "held_out"):
        samples = Samples(prepared, config, split)
        batch = samples.batch(0, min(len(samples), 200))
        seen = set()
        for row, segments in enumerate(batch["segments"]):
            for number in range(segments.max() + 1):  # a packed held-out sample may hold both
                read, written = (batch[name][row][segments == number] for name in ("tokens", "targets"))
                text = tokenizer.decode(written[written >= 0])
                for origin in (name for name in tokens if name in text):
                    assert read[0] == tokens[origin]
                    seen.add(origin)
        assert seen == {"big", "small"}


def test_languages_that_nobody_stated(files):
    with pytest.raises(UserError, match=r"state data\.sources\.small\.language"):
        config = mbart(config_of(files, big={"language": "en"}), ("<de>", "<en>"))
        Samples(prepare(config), config, "train")
    with pytest.raises(UserError, match=r"the tokenizer has no <en>; add it to tokenizer\.symbols"):
        config = mbart(config_of(files, big={"language": "en"}, small={"language": "de"}), ())
        Samples(prepare(config), config, "train")
