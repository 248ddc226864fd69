"""Our models against transformers': the same weights give the same logits, losses, gradients and tokens."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from tiny import DECODERS, ENCODER_DECODERS, ENCODERS, MODELS, ours, tiny
from torch.nn import functional as F

from trainer.hub import FAMILIES, read_checkpoint

BY_MASK = (
    "opt",
    "opt-post",
    "roberta",
    "camembert",
    "xlm-roberta",
    "xlm-roberta-xl",
)  # positions count real tokens only


def logits_of(output):
    return output.prediction_logits if hasattr(output, "prediction_logits") else output.logits


def close(got, want, where=None):
    """1e-5 of the logits' spread, at the places that are not padding."""
    where = torch.ones(want.shape[:2], dtype=torch.bool) if where is None else where
    assert (got - want)[where].abs().max() <= 1e-5 * max(1.0, float(want[where].std()))


def padded(name, side):
    """Two rows of 20 tokens, the second with 7 of padding; attention mask, segments and positions."""
    tokens = torch.randint(6, 96, (2, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    mask[1, slice(0, 7) if side == "left" else slice(13, 20)] = 0
    pad = tiny(name).config.pad_token_id
    tokens = tokens.masked_fill(mask == 0, 3 if pad is None else pad)
    positions = torch.arange(20).expand(2, 20)
    if name in BY_MASK:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
    return tokens, mask, mask - 1, positions


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
@torch.no_grad()
def test_logits_with_padding(name, side, saved):
    tokens, mask, segments, positions = padded(name, side)
    want = logits_of(tiny(name)(input_ids=tokens, attention_mask=mask))
    got = ours(read_checkpoint(saved(name))).logits(tokens, positions, segments)
    close(got, want, mask.bool())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
@torch.no_grad()
def test_logits_with_padded_source(name, side, saved):
    tokens, mask, segments, positions = padded(name, side)
    targets = torch.randint(6, 96, (2, 9), generator=torch.Generator().manual_seed(2))
    want = tiny(name)(input_ids=tokens, attention_mask=mask, decoder_input_ids=targets).logits
    net = ours(read_checkpoint(saved(name)))
    close(net.logits(targets, source_tokens=tokens, source_positions=positions, source_segments=segments), want)


def batch_and_labels(name):
    """A batch of ours with equally many targets in every row, and the same as arguments of transformers."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(6, 96, (2, 16), generator=generator)
    batch = {"tokens": tokens, "segments": torch.zeros_like(tokens), "positions": torch.arange(16).expand(2, 16)}
    theirs = {"input_ids": tokens, "labels": tokens}
    if name in DECODERS:
        batch["targets"] = F.pad(tokens[:, 1:], (0, 1), value=-100)
    elif name in ENCODERS:
        batch["targets"] = torch.where(torch.arange(16) % 4 == 1, tokens, -100)
        theirs["labels"] = batch["targets"]
        if name in ("bert", "albert"):
            types = (torch.arange(16) > 8).long().expand(2, 16)
            batch |= {"token_types": types, "sentence_label": torch.tensor([0, 1])}
            answer = "next_sentence_label" if name == "bert" else "sentence_order_label"
            theirs |= {"token_type_ids": types, answer: torch.tensor([0, 1])}
        elif name == "xlnet":
            types = (torch.arange(16) > 8).long().expand(2, 16)
            batch["token_types"] = theirs["token_type_ids"] = types
    else:
        decoder = torch.randint(6, 96, (2, 11), generator=generator)
        batch = {f"source_{key}": value for key, value in batch.items()}
        batch |= {"tokens": decoder, "segments": torch.zeros_like(decoder), "positions": torch.arange(11).expand(2, 11)}
        batch["targets"] = decoder.roll(-1, 1)
        theirs |= {"decoder_input_ids": decoder, "labels": batch["targets"]}
    return batch, theirs


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients(name, saved):
    batch, arguments = batch_and_labels(name)
    their_net = tiny(name)
    their_net.zero_grad()
    want = their_net(**arguments).loss
    want.backward()
    imported = read_checkpoint(saved(name))
    net = ours(imported)
    total, count, _ = net(**batch)
    loss = total / count
    loss.backward()
    assert abs((loss - want).item()) <= 1e-5 * max(1.0, want.item())
    gradients = {key: parameter.grad for key, parameter in net.named_parameters()}
    theirs = dict(their_net.named_parameters())
    checked = 0
    for entry in FAMILIES[their_net.config.model_type].entries(imported.model):
        expected = theirs[entry.theirs].grad if entry.theirs in theirs else None
        if expected is not None and all(gradients[part] is not None for part in entry.ours):
            got = entry.layout.join([gradients[part] for part in entry.ours])
            assert (got - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max())), entry.theirs
            checked += 1
    assert checked >= 16


@torch.no_grad()
def greedy(step, tokens, count):
    for _ in range(count):
        tokens = torch.cat((tokens, step(tokens)[:, -1].argmax(-1, keepdim=True)), dim=1)
    return tokens


@pytest.mark.parametrize("name", [*DECODERS, *ENCODER_DECODERS])
@torch.no_grad()
def test_greedy_generation(name, saved):
    tokens = torch.randint(6, 96, (2, 6), generator=torch.Generator().manual_seed(4))
    net, model = ours(read_checkpoint(saved(name))), tiny(name)
    settings = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "num_beams": 1, "pad_token_id": 0}
    settings |= {"eos_token_id": None, "forced_eos_token_id": None, "attention_mask": torch.ones_like(tokens)}
    if name in DECODERS:
        assert torch.equal(greedy(net.logits, tokens, 12), model.generate(tokens, **settings))
    else:
        want = model.generate(tokens, decoder_start_token_id=2, **settings)
        assert torch.equal(greedy(lambda t: net.logits(t, source_tokens=tokens), torch.full((2, 1), 2), 12), want)
