"""Models, assembled from typed configuration: a backbone under a head. Ranks and engines are left to training."""

from __future__ import annotations

from trainer.config import Config
from trainer.config.model import ModelConfig
from trainer.models.backends import use_kernels
from trainer.models.decoder import Decoder
from trainer.models.dropout import use_dropout
from trainer.models.encoder import Encoder
from trainer.models.encoder_decoder import EncoderDecoder
from trainer.models.initialization import initialize
from trainer.models.language_heads import EncoderHead, LanguageHead
from trainer.models.losses import NOT_A_TARGET
from trainer.models.model import Backbone, Head, Model, load_weights
from trainer.models.parametrization import learning_rate_scales, parameter_scales
from trainer.models.preference import PolicyAndReference
from trainer.models.replaced_token import ReplacedTokenHead, ReplacedTokenModel

__all__ = [
    "NOT_A_TARGET",
    "Backbone",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Head",
    "Model",
    "PolicyAndReference",
    "build",
    "initialize",
    "learning_rate_scales",
    "load_weights",
    "parameter_scales",
    "pretraining_model",
]

# Beginnings of names in the tree of modules -> in checkpoints, where they stay what they were in 0.1.0.
NAMES = {
    "decoder": {"backbone.": "", "head.output.": "head.", "head.": ""},
    "encoder": {"backbone.": "", "head.language.": "head.", "head.": ""},
    "encoder_decoder": {"backbone.": "", "head.output.": "head.", "head.": ""},
    "generator": {"backbone.": ""},
    "discriminator": {"backbone.": "", "head.generator.head.": "replaced.token_head.", "head.": "replaced."},
    "tuned": {"backbone.": "body.", "head.": ""},
}
POOLER = {"head.dense.": "body.pooler."}  # of a tuned encoder, where it was trained before
BACKBONES = {"decoder": Decoder, "encoder": Encoder, "encoder_decoder": EncoderDecoder}


def build(config: Config) -> Model | PolicyAndReference:
    """The model of this configuration on the current default device, its parameters not yet initialised."""
    task = config.task
    model: Model | PolicyAndReference
    if task.description is not None and task.description.head is not None:
        model = _tuned(config, task.part("head")(config))
    elif task.reference:
        model = task.part("wrapper")(config, _pretrained(config), reference=_pretrained(config))
    else:
        model = _pretrained(config)
        model.rows_stand_alone = config.rows_stand_alone
    use_kernels(model, config.kernels)
    use_dropout(model, config.seed, config.kernels.dropout)
    return model


def pretraining_model(
    config: ModelConfig,
    vocabulary: int,
    max_length: int,
    *,
    backend: str = "auto",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Model:
    """A backbone under the head of its pre-training. backend: of attention. label_smoothing: of decoders' losses.
    z_loss: coefficient of the z term of tokens' losses."""
    backbone = BACKBONES[config.family](config, vocabulary, max_length, backend=backend)
    if config.family != "encoder":
        head = LanguageHead(config, vocabulary, backbone.tokens, label_smoothing=label_smoothing, z_loss=z_loss)
        return Model(config, backbone, head, NAMES[config.family])
    if config.generator is None:
        encoder_head = EncoderHead(config, vocabulary, backbone.tokens, z_loss=z_loss)
        return Model(config, backbone, encoder_head, NAMES["encoder"])
    small = config.generator
    if config.embedding_sharing == "whole":
        reader = Encoder(small, vocabulary, max_length, embedded_by=backbone, backend=backend)
    else:
        reader = Encoder(small, vocabulary, max_length, tokens=backbone.tokens, backend=backend)
    language_head = LanguageHead(small, vocabulary, backbone.tokens, z_loss=z_loss)
    generator = Model(small, reader, language_head, NAMES["generator"])
    return ReplacedTokenModel(config, backbone, ReplacedTokenHead(config, generator), NAMES["discriminator"])


def _pretrained(config: Config) -> Model:
    return pretraining_model(
        config.model,
        config.vocabulary,
        config.max_length,
        backend=config.kernels.attention,
        label_smoothing=config.task.label_smoothing,
        z_loss=config.objective.z_loss,
    )


def _tuned(config: Config, head: Head) -> Model:
    model = config.backbone
    backbone = BACKBONES[model.family](model, config.vocabulary, config.max_length, backend=config.kernels.attention)
    pooler = POOLER if model.family == "encoder" and model.pooler == "pretraining" else {}
    return Model(config.model, backbone, head, NAMES["tuned"] | pooler)
