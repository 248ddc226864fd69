"""How text becomes a training example: one file per family of objectives."""

from __future__ import annotations

from trainer.config import Config
from trainer.objectives.bart import Denoising, MultilingualDenoising
from trainer.objectives.base import NO_TARGET, PADDING, Batch, Layout, Objective, Window
from trainer.objectives.causal import Causal, FillInTheMiddle, PrefixLM
from trainer.objectives.masked import MaskedLM, Masking, PairedLM, UniLM
from trainer.objectives.mass import MaskedSequence
from trainer.objectives.packed import Packed
from trainer.objectives.permuted import PermutedLM
from trainer.objectives.spans import Denoiser, SpanCorruption, ul2
from trainer.objectives.vocabulary import Vocabulary
from trainer.utils.errors import UserError

__all__ = [
    "NO_TARGET",
    "PADDING",
    "Batch",
    "Layout",
    "Objective",
    "Packed",
    "Vocabulary",
    "Window",
    "check_family",
    "objective",
]


def objective(config: Config, vocabulary: Vocabulary) -> Objective:
    """The objective that `config.objective` describes.

    Raises UserError when the model is of a family that it cannot train, or the tokenizer lacks the special tokens it
    needs.
    """
    check_family(config)
    built = _build(config, vocabulary)
    if config.data.packing == "best_fit":
        return Packed(built, vocabulary.id("<pad>", config.objective.name))  # type: ignore[arg-type]
    return built


def check_family(config: Config) -> None:
    """Raise UserError when the model is of a family that the objective cannot train. Tuning asks none of it."""
    if config.task.kind is not None:
        return
    families = KINDS[config.objective.name].families
    if config.model.family not in families:
        raise UserError(
            f"objective={config.objective.name} trains {' and '.join(families)} models, "
            f"model={config.model.name} is a model of the family {config.model.family}; "
            "choose another model or another objective"
        )


KINDS: dict[str, type[Objective]] = {
    "causal": Causal,
    "prefix_lm": PrefixLM,
    "fim": FillInTheMiddle,
    "masked_lm": MaskedLM,
    "replaced_token": MaskedLM,
    "permuted_lm": PermutedLM,
    "unilm": UniLM,
    "mass": MaskedSequence,
    "bart": Denoising,
    "mbart": MultilingualDenoising,
    "span_corruption": SpanCorruption,
    "ul2": SpanCorruption,
}


def _build(config: Config, vocabulary: Vocabulary) -> Objective:
    keys, length = config.objective, config.data.sequence_length
    padded = config.data.packing == "padded"
    layout: Layout = {"packed": "text", "padded": "pieces", "best_fit": "best_fit"}[config.data.packing]  # type: ignore
    copies = keys.copies if keys.masks == "static" else None
    match keys.name:
        case "causal":
            return Causal(length, layout="documents" if padded else "stream")
        case "prefix_lm":
            return PrefixLM(length, layout="documents" if padded else "stream")
        case "fim":
            return FillInTheMiddle(
                length, vocabulary, layout="documents" if padded else "stream", rate=keys.rate, spm_rate=keys.spm_rate
            )
        case "masked_lm" | "replaced_token":
            masking = _masking(config, vocabulary)
            if keys.question is None:
                return MaskedLM(keys.name, length, vocabulary, masking, layout=layout, copies=copies)
            return PairedLM(
                keys.name,
                length,
                vocabulary,
                masking,
                question=keys.question,
                short_rate=keys.short_rate,
                copies=copies,
            )
        case "permuted_lm":
            return PermutedLM(
                length, vocabulary, layout=layout, rate=keys.rate, longest=keys.longest, memory=keys.memory
            )
        case "mass":
            return MaskedSequence(length, vocabulary, _masking(config, vocabulary), layout=layout, rate=keys.rate)
        case "unilm":
            return UniLM(
                length, vocabulary, _masking(config, vocabulary, "token"), _masking(config, vocabulary, "ngram")
            )
        case "bart" | "mbart":
            denoising = MultilingualDenoising if keys.name == "mbart" else Denoising
            return denoising(
                length,
                vocabulary,
                layout=layout,
                noises=keys.noises,
                rate=keys.rate,
                mean_span=keys.mean_span,
                random_share=keys.random_share,
                whole_words=keys.unit == "word",
            )
        case "span_corruption":
            return SpanCorruption(keys.name, length, vocabulary, (Denoiser(keys.rate, keys.mean_span),), layout=layout)
        case "ul2":
            return SpanCorruption(keys.name, length, vocabulary, ul2(), layout=layout)


def _masking(config: Config, vocabulary: Vocabulary, unit: str | None = None) -> Masking:
    keys = config.objective
    return Masking(
        keys.name,
        vocabulary,
        rate=keys.rate,
        unit=unit or keys.unit,  # type: ignore[arg-type]
        longest=keys.longest,
        mask_share=keys.mask_share,
        random_share=keys.random_share,
        at_least_one=keys.masks == "static",
    )
