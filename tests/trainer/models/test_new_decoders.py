"""Decoders whose blocks or layers differ from Llama's: they compose and learn, local layers see their window, counts
are those of the papers."""

from __future__ import annotations

import pytest
import torch
from presets import account, preset, side

from trainer.books.parameters import parameters
from trainer.books.visible import Document, visible_scores
from trainer.cli.main import main
from trainer.compose import compose
from trainer.config.model import ModelConfig
from trainer.data import Samples, prepare
from trainer.models import build, initialize, pretraining_model
from trainer.models.block import summed
from trainer.utils.errors import UserError

SIZES = ["depth=4", "width=32", "heads=4", "vocabulary=null", "max_length=32"]
SMALLER = {"kv_heads": "2", "head_size": "8", "ffn_width": "48", "window": "7", "attention_scale": "0.3"}
NEW = ["gemma-2b", "gemma2-2b", "gemma3-27b", "olmo3-32b", "aya-expanse-32b", "command-r-plus-104b", "gpt-neo-125m"]
NEW += ["t-nlg-17b", "lamda-2b"]


@pytest.mark.parametrize("name", NEW)
def test_it_composes_and_learns_for_three_steps(name, corpus, cache):
    model = preset(name).model
    smaller = [f"{key}={value}" for key, value in SMALLER.items() if getattr(model, key) is not None]
    words = [f"model.{word}" for word in (*SIZES, *smaller)]
    data = ["data=text", f"data.path={corpus}", f"run.cache={cache}", "data.sequence_length=32", "optim.batch_size=4"]
    config = compose([f"model={name}", *words, *data, "tokenizer.vocabulary=512"])
    net = build(config)
    initialize(net, 0)
    assert parameters(config).total == sum(parameter.numel() for parameter in net.parameters())
    batch = Samples(prepare(config), config, "train").batch(0, 4)
    optimizer, losses = torch.optim.AdamW(net.parameters(), lr=3e-3), []
    for _ in range(4):
        loss, targets, _ = net(**{key: torch.from_numpy(array) for key, array in batch.items()})
        losses.append(loss.item() / targets.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.01 and losses == sorted(losses, reverse=True)
    assert all(parameter.grad is not None for parameter in net.parameters())


LOCAL = {"depth": 6, "width": 32, "heads": 4, "vocabulary": 96, "window": 3, "global_every": 3}


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [({}, [0, 3]), ({"global_last": True}, [2, 5]), ({"global_last": True, "global_every": 2}, [1, 3, 5])],
)
def test_local_layers_see_their_window_and_no_more(keys, wanted):
    """Gradients that are exactly zero, layer by layer."""
    config = ModelConfig.model_validate(LOCAL | keys)
    net = pretraining_model(config, 96, 64)
    initialize(net, 0)
    assert [layer for layer in range(6) if not config.local(layer)] == wanted
    places = torch.arange(16).expand(2, 16)
    context = net.backbone.context(net.backbone.embed(side(16)["tokens"] % 96, places), places, None)
    for layer in range(6):
        x = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        out = summed(*net.backbone.blocks[layer](x, context))
        (gradient,) = torch.autograd.grad((out[:, 10] ** 2).sum(), x)
        seen = (gradient.abs().amax(dim=(0, 2)) > 0).nonzero().flatten().tolist()
        assert seen == list(range(0 if layer in wanted else 7, 11))


@pytest.mark.parametrize(
    ("name", "stated", "within"),
    [("lamda-2b", 2e9, 0.06), ("lamda-8b", 8e9, 0.08), ("lamda-137b", 137e9, 0.005), ("t-nlg-17b", 17e9, 0.015)],
)
def test_counts_are_those_that_the_papers_state(name, stated, within):
    """LaMDA's without its embedding (Thoppilan et al. 2022, section 3), T-NLG's "17 billion" whole."""
    count = account(name).non_embedding if name.startswith("lamda") else account(name).published
    assert count == pytest.approx(stated, rel=within)


@pytest.mark.parametrize(
    ("name", "embedding", "others"),
    [("1b", 302e6, 698e6), ("4b", 675e6, 3_209e6), ("12b", 1_012e6, 10_759e6), ("27b", 1_416e6, 25_600e6)],
)
def test_gemma_3_by_its_report(name, embedding, others):
    """Kamath et al. 2025, table 1, whose embeddings have a few more rows than were released."""
    found = account(f"gemma3-{name}")
    assert found.non_embedding == pytest.approx(others, rel=0.002)
    assert found.embedding == pytest.approx(embedding, rel=0.01)


def test_alternating_bands_of_gpt_3_cost_less_and_count_the_same():
    """Brown et al. 2020, section 2.1, with GPT-Neo's band, by the words that the docs give."""
    dense = compose(["model=gpt3-125m", "data.sequence_length=2048"])
    banded = compose(["model=gpt3-125m", "data.sequence_length=2048", "model.window=255", "model.global_every=2"])
    assert parameters(dense).total == parameters(banded).total
    document = [Document(2048)]
    band = 256 * 2048 - 255 * 256 // 2
    wanted = (2048 * 2049 // 2 + band) / (2048 * 2049)
    assert visible_scores(banded, document) / visible_scores(dense, document) == pytest.approx(wanted)


def rotary_model(**keys):
    return ModelConfig.model_validate({"depth": 2, "width": 32, "heads": 4, "position": "rotary", **keys})


def test_yarn_leaves_fast_channels_and_stretches_slow_ones():
    from trainer.models.positions import rotary_angles

    yarn = {"rotary_scaling": "yarn", "rotary_factor": 8.0, "rotary_original_length": 64, "head_size": 64}
    places = torch.arange(5)[None]
    plain, turned = (rotary_angles(places, rotary_model(**keys)) for keys in ({"head_size": 64}, yarn))
    size = turned[0][0, 0, 0]  # at position 0 the cosine is the factor alone
    assert float(size) == pytest.approx(1 + 0.1 * torch.tensor(8.0).log().item())
    angles = [torch.atan2(sine, cosine)[0, 1] for cosine, sine in (plain, turned)]
    assert torch.allclose(angles[1][0], angles[0][0]) and torch.allclose(angles[1][-1], angles[0][-1] / 8)
    near = rotary_angles(places, rotary_model(**yarn, rotary_scaled="global", window=4), local=True)
    assert torch.equal(near[0], plain[0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model=gemma3-1b", "model.global_every=1"], "model.global_last: the last of how many layers?"),
        (["model=aya-23-8b", "model.parallel=false"], "model.shared_norm: one norm serves two branches"),
        (["model=gpt-neo-125m", "model.bias=false"], "model.qkv_unbiased: model.bias=false has none already"),
        (["model=llama3.2-1b", "model.rotary_beta_fast=16"], "rotary_scaling=llama3 does not read it; yarn does"),
        (["model=olmo3-7b", "model.rotary_beta_slow=40"], "rotary_beta_fast: 32 must be more than rotary_beta_slow 40"),
        (["model=gemma3-1b", "model.norm_position=sandwiched"], "'sandwich'"),
        (["model=gemma3-1b", "model.parallel=true"], "model.parallel: needs model.norm_position=pre, got sandwich"),
        (["model=aya-23-8b", "model.logit_scale=0"], "model.logit_scale"),
        (["model=gema3-1b"], "gemma3-1b"),
    ],
)
def test_bad_input_is_a_line(words, told, capsys):
    with pytest.raises(UserError, match=told.replace("?", r"\?")) as error:
        compose(words)
    assert len(str(error.value).splitlines()) == 1
    assert main(["model", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
