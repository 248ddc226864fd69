"""The zoo: models are assembled here from typed configuration; they know nothing of ranks or engines."""

from __future__ import annotations

from trainer.config import Config
from trainer.models.backends import use_kernels
from trainer.models.decoder import Decoder
from trainer.models.encoder import Encoder
from trainer.models.encoder_decoder import EncoderDecoder
from trainer.models.heads import DPO, HEADS, TaskModel
from trainer.models.initialization import initialize
from trainer.models.losses import NOT_A_TARGET
from trainer.models.width import learning_rate_scales

__all__ = [
    "NOT_A_TARGET",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Model",
    "build",
    "initialize",
    "learning_rate_scales",
]

Model = Decoder | Encoder | EncoderDecoder | TaskModel | DPO
ASSEMBLIES: dict[str, type[Decoder] | type[Encoder] | type[EncoderDecoder]] = {
    "decoder": Decoder,
    "encoder": Encoder,
    "encoder_decoder": EncoderDecoder,
}


def build(config: Config) -> Model:
    """The model of this configuration on the current default device, its parameters not yet initialised."""
    task, model = config.task, _assembled(config)
    if task.kind in HEADS:
        return HEADS[task.kind](config, model)
    if task.kind == "preference":
        return DPO(config, model, reference=_assembled(config))  # type: ignore[arg-type]
    if not isinstance(model, Encoder):
        model.label_smoothing = task.label_smoothing
    return model


def _assembled(config: Config) -> Decoder | Encoder | EncoderDecoder:
    assembly = ASSEMBLIES[config.body.family]
    model = assembly(config.body, config.vocabulary, config.max_length, backend=config.kernels.attention)
    use_kernels(model, config.kernels)
    return model
