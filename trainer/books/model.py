"""The account of a model by part: parameters, and the operations of one token's forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.books.experts import experts_said
from trainer.books.flops import flops
from trainer.books.formatting import format_amount
from trainer.books.parameters import parameters
from trainer.books.visible import Document, visible_scores
from trainer.config import Config


def model_account(config: Config, documents: Sequence[Document] = ()) -> dict[str, Any]:
    """Parameters and FLOPs per token by part, as plain data; of the scores also what masks let through, in a
    sample that holds these documents. Raises UserError where they are not those of a sample."""
    weights, work = parameters(config), flops(config)

    def token(sample: int) -> float:
        return sample * work.samples_per_step / work.tokens_per_step

    model = config.model
    return {
        "model": model.name,
        "family": model.family,
        "shape": {
            "layers": model.depth,
            **({} if model.decoder_depth is None else {"decoder_layers": model.decoder_depth}),
            "width": model.width,
            "heads": model.heads,
            "kv_heads": model.key_heads,
            "head_size": model.head_channels,
            "ffn_width": model.ffn_channels,
            "vocabulary": config.vocabulary,
            **experts_said(model),
            "position": model.position,
            "norm": f"{model.norm_position} {model.norm}",
        },
        "sequence_length": config.data.sequence_length,
        "parameters": {
            "embedding": weights.embedding,
            "position": weights.position,
            "attention": weights.attention,
            "feed_forward": weights.feed_forward,
            "norm": weights.norm,
            "head": weights.head,
            "total": weights.published,
            "active": weights.published - weights.idle,
            "backbone": weights.backbone,
            "non_embedding": weights.non_embedding,
            "generator": weights.generator,
            "shared": weights.shared,
        },
        "weight_bytes": {"fp32": 4 * weights.total, "bf16": 2 * weights.total},
        "flop_per_token": {
            "projections": token(work.projections),
            "scores": token(work.scores),
            "feed_forward": token(work.feed_forward),
            "head": token(work.head),
            "embedding": token(work.embedding),
            "generator": token(work.generator),
            "forward": work.forward_per_step / work.tokens_per_step,
            "backward": work.backward_per_step / work.tokens_per_step,
            "total": work.per_token,
            "recomputed": work.recomputed_per_step / work.tokens_per_step,
            "visible_scores": token(visible_scores(config, documents)) if documents else None,
            "six_n": work.six_n_step / work.tokens_per_step,
            "six_n_attention": (work.six_n_step + work.twelve_lhqt_step) / work.tokens_per_step,
        },
    }


_NAMES = {
    "projections": "attention projections",
    "scores": "attention scores",
    "non_embedding": "without embeddings",
    "active": "active, per token",
    "shared": "shared with a tied head",
    "kv_heads": "key and value heads",
    "head_size": "channels per head",
    "ffn_width": "feed-forward width",
    "visible_scores": "scores that masks leave",
    "six_n": "by the rule 6N",
    "six_n_attention": "by 6N + 12LHQT",
}


def format_model(account: dict[str, Any]) -> str:
    """`model_account` as an aligned table with shares of the total."""
    lines = [f"{account['model']} ({account['family']}), sequences of {account['sequence_length']:,} tokens", "shape"]
    for key, value in account["shape"].items():
        shown = f"{value:,}" if isinstance(value, int) else value
        lines.append(f"  {_NAMES.get(key, key.replace('_', ' ')):<24}{shown:>16}")
    for title, name, unit in (("parameters", "parameters", ""), ("FLOPs per token", "flop_per_token", "FLOP")):
        part = account[name]
        whole = part["total"]
        lines.append(title)
        for key, value in part.items():
            if (not value and key not in ("recomputed", "total")) or (key == "active" and value == whole):
                continue
            share = f"{100 * value / whole:6.1f} %" if whole else ""
            label = _NAMES.get(key, key.replace("_", " "))
            lines.append(f"  {label:<24}{format_amount(value, unit):>16}  {share}")
    lines.append("memory of the weights")
    lines += [f"  {dtype:<24}{format_amount(value, 'bytes'):>16}" for dtype, value in account["weight_bytes"].items()]
    return "\n".join(lines)
