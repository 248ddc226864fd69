"""Our models against transformers': seconds of one forward and backward pass, same weights, same batch, one process.

The two take turns, so that both see the same machine; medians over the rounds. Ratio: theirs / ours, so that more
than 1 is in our favour. Needs transformers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: it has modules of our packages' names

from trainer.hub import read_checkpoint  # noqa: E402
from trainer.models import pretraining_model  # noqa: E402

CLASSES = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config"),
    "bert": ("BertForPreTraining", "BertConfig"),
    "bart": ("BartForConditionalGeneration", "BartConfig"),
}
BART_BASE = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
BART_BASE |= {"encoder_attention_heads": 12, "decoder_attention_heads": 12}


def theirs_of(name: str) -> Any:
    """transformers' model of base size without dropout, with SDPA."""
    import transformers

    kind, config = (getattr(transformers, part) for part in CLASSES[name])
    quiet = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout_prob", "attention_probs_dropout_prob")
    quiet += ("dropout", "attention_dropout", "activation_dropout")
    settings = config(**(BART_BASE if name == "bart" else {}))
    for key in quiet:
        if hasattr(settings, key):
            setattr(settings, key, 0.0)
    settings._attn_implementation = "sdpa"
    return kind(settings).train()


def ours_of(theirs: Any) -> Any:
    """The same weights in our model."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        imported = read_checkpoint(Path(folder))
    model = imported.model
    net = pretraining_model(model, model.vocabulary or 0, model.max_length or 0).train()
    names = dict(net.named_parameters())
    with torch.no_grad():
        for part, value in imported.weights.items():
            names[part].copy_(value)
    return net


def passes(name: str, rows: int, length: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """(ours, theirs): one forward and backward pass; each returns the loss."""
    theirs = theirs_of(name)
    ours = ours_of(theirs)
    tokens = torch.randint(10, 30_000, (rows, length), generator=torch.Generator().manual_seed(0))
    segments, positions = torch.zeros_like(tokens), torch.arange(length).expand(rows, length)
    batch = {"tokens": tokens, "segments": segments, "positions": positions}
    words: dict[str, Any] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if name == "gpt2":
        batch["targets"] = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
        words["labels"] = tokens
    elif name == "bert":
        batch["targets"] = words["labels"] = torch.where(tokens % 7 == 0, tokens, -100)
        answer = torch.zeros(rows, dtype=torch.long)
        batch |= {"sentence_label": answer, "token_types": torch.zeros_like(tokens)}
        words |= {"next_sentence_label": answer, "token_type_ids": torch.zeros_like(tokens)}
    else:
        batch |= {f"source_{key}": value for key, value in batch.items()}
        batch["targets"] = words["labels"] = tokens.roll(-1, 1)
        words["decoder_input_ids"] = tokens

    def run_ours() -> float:
        ours.zero_grad()
        total, count, _ = ours(**batch)
        loss = total / count
        loss.backward()
        return loss.item()

    def run_theirs() -> float:
        theirs.zero_grad()
        loss = theirs(**words).loss
        loss.backward()
        return loss.item()

    return run_ours, run_theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default=",".join(CLASSES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"fp32, {options.rows} rows of {options.length} tokens, {options.threads} threads, {options.rounds} rounds")
    for name in options.only.split(","):
        ours, theirs = passes(name, options.rows, options.length)
        losses = ours(), theirs()  # first use
        assert abs(losses[0] - losses[1]) < 0.05, losses  # BERT's two means weigh rows differently
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(options.rounds):
            for who, run in (("ours", ours), ("theirs", theirs)):
                started = time.perf_counter()
                run()
                seconds[who].append(time.perf_counter() - started)
        middle = {who: statistics.median(values) for who, values in seconds.items()}
        print(
            f"{name:<6} ours {middle['ours']:.3f} s   transformers {middle['theirs']:.3f} s   "
            f"ratio {middle['theirs'] / middle['ours']:.3f}"
        )


if __name__ == "__main__":
    main()
