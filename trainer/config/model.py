"""The typed description of a transformer: what a file in conf/model may say."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import field_validator, model_validator

from trainer.config.choice import Choosing, with_keys
from trainer.config.dropout_rates import DropoutRates, Rate
from trainer.config.experts import ExpertsConfig
from trainer.config.growth import Growth
from trainer.config.model_checks import model_misfits
from trainer.descriptions.activations import ACTIVATIONS
from trainer.descriptions.norms import NORMS
from trainer.utils.schema import Count, Paths, key, plain_name


@with_keys
class ModelConfig(DropoutRates, Growth, Choosing):
    """A transformer, described in full; a published architecture is a file in conf/model."""

    CHOICES: ClassVar = {"activation": ACTIVATIONS, "norm": NORMS}

    name: str = key("llama-mini", "name of the preset, shown in reports and used in the run's folder")
    family: Literal["decoder", "encoder", "encoder_decoder"] = key("decoder", "which assembly of blocks")

    # Size.
    size: Count | None = key(
        None,
        "size dial: total parameters wanted; sets depth, width and heads in the preset's proportions, then null",
        "parameters",
        ge=1,
    )
    vocabulary: Count | None = key(
        None, "rows of the embedding; null: the tokenizer's pieces, rounded up to 64", "tokens", ge=1, le=100_000_000
    )
    depth: int = key(4, "number of blocks (an encoder-decoder: of each side)", "layers", ge=1, le=10_000)
    decoder_depth: int | None = key(
        None, "blocks of the decoder of an encoder-decoder; null: depth", "layers", ge=1, le=10_000, introduced=None
    )
    width: int = key(256, "size of the residual stream", "channels", ge=1, le=1_000_000)
    heads: int = key(4, "query heads per attention layer", "heads", ge=1)
    kv_heads: int | None = key(None, "key and value heads (grouped queries); null: as many as heads", "heads", ge=1)
    head_size: int | None = key(None, "channels per head; null: width / heads", "channels", ge=1)
    ffn_width: int | None = key(
        None, "hidden size of the feed-forward; null: 4 width, or 8/3 width if gated", "channels", ge=1
    )
    embedding_width: int | None = key(
        None, "columns of the token embedding where it is factorised; null: width", "channels", ge=1
    )
    shared_layers: bool = key(False, "all blocks are one block (ALBERT)")

    # Blocks.
    activation: str = key("silu", "nonlinearity of the feed-forward")
    gated: bool = key(True, "gated feed-forward (SwiGLU with silu, GeGLU with gelu)")
    norm: str = key("rmsnorm", "kind of normalisation")
    norm_epsilon: float = key(1e-5, "added to the variance", gt=0)
    norm_position: Literal["pre", "post", "reordered", "sandwich"] = key(
        "pre",
        "before each branch and at the end; after each sum (BERT); after each branch and at the end (OLMo-2); "
        "sandwich: before and after each branch, and at the end (Gemma 2)",
    )
    first_norm: bool = key(
        True, "the first block normalises before its attention (ModernBERT: not again after the embedding)"
    )
    parallel: bool = key(False, "attention and feed-forward side by side in one residual step (GPT-NeoX)")
    shared_norm: bool = key(
        False, "with parallel: attention and feed-forward read one norm (GPT-J, Cohere)", introduced=False
    )
    qk_norm: Literal["none", "projection", "head", "heads"] = key(
        "none",
        "normalise queries and keys: whole projection (OLMo-2); per head; heads: by LayerNorm with weights of "
        "each head's own (Command R+)",
    )
    bias: bool = key(False, "additive biases in linear layers and LayerNorm")
    qkv_bias: bool = key(False, "biases of queries, keys and values alone (Qwen 2)", introduced=False)
    qkv_unbiased: bool = key(
        False, "with bias: queries, keys and values have none all the same (GPT-Neo)", introduced=False
    )
    attention_scale: float | None = key(None, "factor of the scores; null: 1 / sqrt(head_size) (T5: 1)", gt=0)
    score_softcap: float | None = key(
        None,
        "attention scores become c tanh(score / c), before any bias (Gemma 2: 50); null: off",
        gt=0,
        introduced=None,
    )
    sinks: bool = key(
        False, "one learned logit a head and layer that takes probability and gives nothing (gpt-oss)", introduced=False
    )
    window: int | None = key(
        None, "tokens that local layers see to each side; null: all layers are global", "tokens", ge=1
    )
    global_every: int = key(1, "with window: every n-th layer, from the first on, is global", "layers", ge=1)
    global_last: bool = key(
        False,
        "with global_every: the last of every n layers is global, in place of the first (Gemma 2 and 3, OLMo 3)",
        introduced=False,
    )

    experts: ExpertsConfig = key(ExpertsConfig(), "feed-forwards that are mixtures of experts", introduced={})

    # Positions.
    position: Literal["learned", "sinusoidal", "rotary", "alibi", "buckets", "relative", "disentangled", "none"] = key(
        "rotary",
        "position scheme; buckets: T5's biases, relative: Transformer-XL's and XLNet's, disentangled: DeBERTa's",
    )
    position_offset: int = key(0, "rows of the position table before position 0 (OPT, BART, RoBERTa: 2)", "rows", ge=0)
    sinusoids: Literal["tensor2tensor", "formula"] = key(
        "tensor2tensor", "wavelengths of sinusoidal positions: in width / 2 - 1 steps (XGLM) or width / 2 (Pegasus)",
        introduced="tensor2tensor",
    )  # fmt: skip
    max_length: int | None = key(
        None, "longest sequence of learned positions; null: data.sequence_length", "tokens", ge=1
    )
    rotary_base: float = key(10_000.0, "base of the rotary frequencies", gt=1)
    rotary_base_local: float | None = key(None, "the same in local layers; null: rotary_base", gt=1)
    rotary_fraction: float = key(1.0, "share of a head's channels that turn (Pythia: 0.25)", gt=0, le=1)
    rotary_scaling: Literal["none", "linear", "llama3", "yarn"] = key(
        "none", "how frequencies are stretched to longer sequences"
    )
    rotary_factor: float = key(1.0, "by how much they are stretched", ge=1)
    rotary_original_length: int = key(8192, "length before stretching (llama3, yarn)", "tokens", ge=1)
    rotary_scaled: Literal["all", "global"] = key(
        "all",
        "layers whose frequencies are stretched; global: not those that see a window alone (Gemma 3, OLMo 3)",
        introduced="all",
    )
    rotary_beta_fast: float = key(
        32.0, "yarn: what turns so often within the original length is not stretched", "turns", gt=0, introduced=32.0
    )
    rotary_beta_slow: float = key(
        1.0, "yarn: what turns so rarely within it is stretched in full", "turns", gt=0, introduced=1.0
    )
    rotary_attention_factor: float | None = key(
        None, "yarn: factor of cosines and sines; null: 1 + 0.1 ln(rotary_factor)", gt=0, introduced=None
    )
    nope_every: int | None = key(
        None,
        "rotary: every n-th layer has no positions (NoPE; SmolLM3: 4); null: all have",
        "layers",
        ge=2,
        introduced=None,
    )
    relative_buckets: int | None = key(
        32,
        "buckets of T5's relative positions, or on each side of DeBERTa's; null: one a distance (DeBERTa)",
        "buckets",
        ge=4,
    )
    relative_distance: int = key(128, "distance from which on all share a bucket", "tokens", ge=2)
    relative_terms: Literal["both", "c2p", "p2c"] = key(
        "both",
        "disentangled: scores beside that of contents: of content with position, of position with content",
        introduced="both",
    )
    relative_shared: bool = key(
        True, "disentangled: positions pass the matrices of the content, no own ones (DeBERTa-v2 on)", introduced=True
    )
    relative_norm: bool = key(
        True, "disentangled: the table of relative positions is normalised (DeBERTa-v2 on)", introduced=True
    )

    # Embedding and heads.
    embedding_norm: bool = key(False, "normalise the embedded sequence (BLOOM, BERT, BART)")
    embedding_scale: bool = key(False, "multiply token embeddings by sqrt(width) (XGLM, mBART)")
    embedding_projection: Literal["tokens", "sum"] = key(
        "sum",
        "of a factorised embedding: tokens alone, and back at the head (OPT-350m), or the sum with positions (ALBERT)",
    )
    token_types: int = key(0, "rows of the sentence A/B embedding", "types", ge=0)
    languages: Paths = key(
        (), "languages with a row each in an embedding that tells the model what it reads (XLM); none: untold",
        introduced=[],
    )  # fmt: skip
    tied: bool = key(True, "output head shares the embedding matrix")
    head_scale: bool = key(False, "divide by sqrt(width) before the output head (T5 v1.0)")
    logit_scale: float = key(1.0, "factor of the logits over the vocabulary (Cohere)", gt=0, introduced=1.0)
    head_transform: bool = key(False, "dense layer, activation and norm before the output head (BERT)")
    head_bias: bool = key(False, "one bias per vocabulary entry at the output head (BERT)")
    logit_softcap: float | None = key(
        None, "logits over the vocabulary become c tanh(logit / c) (Gemma 2: 30); null: off", gt=0, introduced=None
    )
    pooler: Literal["none", "pretraining", "finetuning"] = key(
        "none",
        "tanh layer on the first token: trained by a sentence head (BERT), or only in the published model (RoBERTa)",
    )
    pooler_activation: Literal["tanh", "gelu", "relu"] = key(
        "tanh",
        "nonlinearity of the layer that classifies rows by one token, of all but decoders (DeBERTa: gelu; "
        "DistilBERT: relu)",
        introduced="tanh",
    )
    sentence_head: bool = key(False, "two-way classifier on the pooler: next sentence or sentence order (encoders)")
    two_stream: bool = key(False, "a query stream beside the content stream, for permuted language modelling (XLNet)")
    generator_width: int | None = key(
        None, "ELECTRA: width of the generator; null: no generator and no discriminator", "channels", ge=1
    )
    generator_depth: int | None = key(
        None, "ELECTRA: blocks of the generator (DeBERTa-v3: half of the model's); null: as many as the model's",
        "layers", ge=1, le=10_000, introduced=None,
    )  # fmt: skip
    generator_heads: int | None = key(
        None, "ELECTRA: heads of the generator; null: in proportion to its width", "heads", ge=1
    )
    generator_weight: float = key(50.0, "ELECTRA: weight of the discriminator's loss beside the generator's", gt=0)
    embedding_sharing: Literal["whole", "disentangled"] = key(
        "whole",
        "ELECTRA: one embedding for generator and discriminator, or the discriminator's is the generator's, which it "
        "does not train, and a difference of its own (DeBERTa-v3)",
        introduced="whole",
    )

    # Initial weights.
    init: Literal["normal", "small", "t5"] = key(
        "normal", "rule of the initial weights: init_std everywhere, GPT-NeoX's small init, or T5's by fan-in"
    )
    init_std: float = key(0.02, "standard deviation of the initial weights (init=normal)", gt=0)
    init_residual: bool = key(True, "divide it by sqrt(2 depth) for the projections into the residual stream (GPT-2)")

    # Dropout.
    dropout: Rate = key(
        0.0,
        "share of the hidden states that is dropped, of embeddings and of every branch; paper: model.paper_dropout",
        introduced=0.0,
    )
    attention_dropout: Rate = key(
        0.0,
        "share of the attention probabilities that is dropped; paper: model.paper_attention_dropout",
        introduced=0.0,
    )
    dropout_inside: bool = key(
        False, "drop also inside of the feed-forward and at the end of a stack (T5, XLNet)", introduced=False
    )
    paper_dropout: float | None = key(
        None, "the share that the paper drops of hidden states; null: not stated", ge=0, lt=1, introduced=None
    )
    paper_attention_dropout: float | None = key(
        None, "the share that the paper drops of attention probabilities; null: not stated", ge=0, lt=1,
        introduced=None,
    )  # fmt: skip

    # Scaling of width and depth.
    mup_base_width: int | None = key(
        None, "muP: the width that it starts from, where all is as without it; null: standard parametrization",
        "channels", ge=1,
    )  # fmt: skip
    mup_base_head_size: int | None = key(
        None, "muP: channels per head at that width; null: as here, so that wider models have more heads",
        "channels", ge=1,
    )  # fmt: skip
    mup_base_depth: int | None = key(
        None, "CompleteP: the depth that it starts from, where all is as without it; null: depth is not scaled",
        "layers", ge=1, introduced=None,
    )  # fmt: skip
    mup_depth_power: float = key(
        1.0, "with mup_base_depth: branches of the residual stream fall as depth to the minus this (CompleteP: 1)",
        ge=0.5, le=1, introduced=1.0,
    )  # fmt: skip

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain_name(value)

    @property
    def settled(self) -> ModelConfig:
        """As the outcome depends on it: dropout by its rates, whoever stated them."""
        rates = {"dropout": self.hidden_rate, "attention_dropout": self.attention_rate}
        inside = self.dropout_inside and self.hidden_rate > 0
        stated = {"paper_dropout": None, "paper_attention_dropout": None}
        return self.model_copy(update={**rates, **stated, "dropout_inside": inside})

    @property
    def score_scale(self) -> float | None:
        """Factor of the attention scores; None: the kernels' own, 1 / sqrt(head_size).

        Under muP it falls as 1 / head_size (Yang et al. 2022, definition 4.1)."""
        if self.mup_base_head_size is None:
            return self.attention_scale
        usual = self.attention_scale or self.head_channels**-0.5
        return float(usual * (self.mup_base_head_size / self.head_channels) ** 0.5)

    @property
    def attention_fields(self) -> tuple[str, ...]:
        """What layers ask of `kernels.attention` that not every backend has (`kernels.choice`)."""
        used = {"softcap": self.score_softcap is not None, "sink": self.sinks}
        return tuple(name for name, on in used.items() if on)

    @property
    def head_factor(self) -> float:
        """What the residual stream is multiplied by before the output head (Yang et al. 2022, table 8)."""
        return float((self.base_width**-0.5 if self.head_scale else 1.0) * self.logit_scale / self.width_growth)

    @property
    def head_channels(self) -> int:
        return self.head_size or self.width // self.heads

    @property
    def key_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def ffn_channels(self) -> int:
        if self.ffn_width:
            return self.ffn_width
        return -(-8 * self.width // (3 * 64)) * 64 if self.gated else 4 * self.width

    @property
    def expert_channels(self) -> int:
        """Hidden size of one expert."""
        return self.experts.width or self.ffn_channels

    @property
    def embedding_channels(self) -> int:
        """Columns of the token embedding."""
        return self.embedding_width or self.width

    @property
    def position_channels(self) -> int:
        """Columns of the learned position table and of the token types."""
        return self.embedding_channels if self.embedding_projection == "sum" else self.width

    @property
    def rotary_channels(self) -> int:
        """Channels of a head that turn."""
        return int(self.head_channels * self.rotary_fraction)

    @property
    def yarn_factor(self) -> float:
        """Of cosines and sines under yarn, which sharpens attention (Peng et al. 2024, section 3.4)."""
        return self.rotary_attention_factor or 1.0 + 0.1 * math.log(self.rotary_factor)

    @property
    def final_norm(self) -> bool:
        """A norm after the last block: where no block ends in one on the residual stream."""
        return self.norm_position != "post"

    @property
    def decoder_side(self) -> ModelConfig:
        """What the decoder of an encoder-decoder is built from: this model, as deep as its decoder."""
        return self if self.decoder_depth is None else self.model_copy(update={"depth": self.decoder_depth})

    def local(self, layer: int) -> bool:
        """Whether this layer sees only its window."""
        place = layer + self.global_last
        return self.window is not None and (self.global_every == 1 or place % self.global_every != 0)

    def turns(self, layer: int) -> bool:
        """Whether queries and keys of this layer turn with their positions."""
        return self.position == "rotary" and not (self.nope_every and (layer + 1) % self.nope_every == 0)

    @property
    def generator(self) -> ModelConfig | None:
        """ELECTRA's generator: over the same embedding, narrower (Clark et al. 2020, section 3.2) or shallower."""
        if self.generator_width is None:
            return None
        ratio = self.generator_width / self.width
        heads = self.generator_heads or max(1, round(self.heads * ratio))
        alike = self.kv_heads is None or self.position == "disentangled"  # as many of them as heads
        fields = {
            "depth": self.generator_depth or self.depth,
            "width": self.generator_width,
            "heads": heads,
            "kv_heads": None if alike else math.gcd(self.key_heads, heads),
            "ffn_width": round(self.ffn_channels * ratio),
            "embedding_width": self.embedding_channels,
            "two_stream": False,
            "generator_width": None,
            "generator_heads": None,
            "generator_depth": None,
        }
        return self.model_copy(update=fields)

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        if wrong := model_misfits(self):
            raise ValueError("\n".join(wrong))
        return self
