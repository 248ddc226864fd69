"""The group `data`: which text, and how much of it a sample holds."""

from __future__ import annotations

import codecs
import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, field_validator, model_validator

from trainer.config.choice import Choosing, with_keys
from trainer.config.labelled import LabelledTaskConfig, MixingConfig
from trainer.config.parallel import language_pairs, parallel_misfits
from trainer.descriptions.readers import READERS
from trainer.utils.errors import nearest
from trainer.utils.schema import Count, Paths, Section, key
from trainer.utils.urls import checked_urls


def _encoding(name: str) -> str:
    """The name of a text encoding, as Python spells it. Raises ValueError."""
    try:
        found = codecs.lookup(name)
        if found._is_text_encoding and found.incrementaldecoder is not None and found.name not in NO_TEXT_OF_FILES:
            return found.name
    except (LookupError, ValueError):
        pass
    raise ValueError(f"{name!r} is no encoding of text; utf-8, latin-1, cp1252, utf-16-le, gb18030, shift_jis ... are")


def _format(name: str | None) -> str | None:
    if name is not None and name not in READERS:
        raise ValueError(f"{name!r} is no kind of files{nearest(name, READERS)}; there are {', '.join(READERS)}")
    return name


OF_A_SOURCE = ("path", "field", "document", "encoding", "format")  # keys of the group that a source states for itself
NO_TEXT_OF_FILES = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")
Encoding = Annotated[str, AfterValidator(_encoding)]
Format = Annotated[str | None, AfterValidator(_format)]
Places = Annotated[Paths, AfterValidator(checked_urls)]


class SourceConfig(Section):
    """One of the texts that a mixture is made of."""

    path: Places = key((), "files, folders or globs of text, JSONL and Parquet, plain or compressed")
    weight: float | None = key(None, "share of the tokens, relative to the others; null: by size and data.alpha", ge=0)
    epochs: float | None = key(None, "most often that it is read, then the others take its share", "epochs", gt=0)
    language: str | None = key(None, "language, e.g. de; reported, never guessed")
    licence: str | None = key(None, "licence as its owner states it; reported, never guessed")
    field: str | None = key(None, "field that holds its text; null: data.field", introduced=None)
    document: Literal["file", "paragraph", "line"] | None = key(
        None, "what one document is in its text files; null: data.document", introduced=None
    )
    encoding: Encoding | None = key(None, "encoding of its files; null: data.encoding", introduced=None)
    format: Format = key(None, "kind of its files; null: data.format", introduced=None)

    @model_validator(mode="after")
    def _given(self) -> SourceConfig:
        if not self.path:
            raise ValueError("path: a source needs files, folders or globs")
        return self


class StageConfig(Section):
    """A stretch of the run with weights or a sequence length of its own."""

    tokens: Count = key(1, "length of the stage, rounded up to whole steps", "tokens", ge=1)
    sequence_length: int | None = key(None, "tokens per sample; null: data.sequence_length", "tokens", ge=8)
    weights: dict[str, float] = key(
        {}, "share of the tokens of each source, relative to the others; missing ones: 0; none: the sources' own"
    )


@with_keys
class DataConfig(Choosing):
    """Which text, and how much of it a sample holds."""

    ALL: ClassVar = READERS

    name: Literal["stdlib", "text", "mixture", "parallel"] = key(
        "stdlib",
        "corpus: Python's own standard library, text files of yours, a mixture of such, or text in several languages",
    )
    path: Places = key((), "files, folders or globs of text, JSONL and Parquet, plain or compressed; for data=text")
    encoding: Encoding = key(
        "utf-8", "encoding of files that do not begin with a byte order mark, e.g. latin-1", introduced="utf-8"
    )
    format: Format = key(
        None, "kind of the files (text, jsonl, parquet ...); null: their content and their names tell", introduced=None
    )
    sequence_length: int = key(256, "tokens per sample", "tokens", ge=8, le=10**9)
    packing: Literal["packed", "padded", "best_fit"] = key(
        "packed",
        "samples without gaps; one stretch of one document each, padded; or whole documents side by side (no decoders)",
    )
    boundaries: bool = key(True, "documents of one sample do not see each other; false: read it as one text")
    normalize: Literal["none", "nfc", "nfkc"] = key("none", "Unicode form that all text is brought into")
    deduplicate: bool = key(False, "keep only the first of documents of the same text")
    shortest: int = key(0, "shorter documents are left out", "characters", ge=0)
    longest: int | None = key(None, "longer documents are left out", "characters", ge=1)
    held_out: float = key(0.05, "share of the documents (chosen by hash) that is never trained on", gt=0, lt=0.5)
    sources: dict[str, SourceConfig] = key(
        {}, "for data=mixture: name of a source -> path, weight, epochs, language, licence, field, document ..."
    )
    alpha: float = key(1.0, "sources without weights: their share is their size to this power (XLM-R 0.3)", ge=0, le=1)
    stages: tuple[StageConfig, ...] = key(
        (), "weights and sequence lengths that change along the run; the last stage holds to the end"
    )
    tasks: dict[str, LabelledTaskConfig] = key(
        {},
        "labelled tasks beside the text: name -> source, or train, held_out, form, input, target, answer, options ...",
        introduced={},
    )
    mixing: MixingConfig = MixingConfig()
    parallel: dict[str, Places] = key(
        {},
        "for data=parallel: language -> its text; pages of one name are paired, or the fields of records of one file",
        introduced={},
    )
    pivot: str | None = key(None, "the language that all others are paired with; null: every two", introduced=None)
    parallel_share: float = key(
        0.5, "share of the samples that are of data.parallel where there are data.sources, too", gt=0, lt=1,
        introduced=0.5,
    )  # fmt: skip

    @property
    def mixes(self) -> bool:
        """Whether the corpus is of several origins, each of which is read by itself."""
        return self.name in ("mixture", "parallel")

    @property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """The origins that hold pairs of texts -> their languages."""
        return language_pairs(self.parallel, self.pivot)

    @property
    def places(self) -> tuple[str, ...]:
        """All files, folders and globs that are named."""
        tables = [*(source.path for source in self.sources.values()), *self.parallel.values()]
        return (*self.path, *(place for paths in tables for place in paths))

    def of_source(self, origin: str) -> DataConfig:
        """The group as it holds for the files of this source of a mixture: its own keys where it states them."""
        source = self.sources.get(origin)
        own = {name: getattr(source, name, None) for name in OF_A_SOURCE}
        return self.model_copy(update={name: value for name, value in own.items() if value is not None})

    @field_validator("stages", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _mixture_fits(self) -> DataConfig:
        wrong = parallel_misfits(self)
        if self.name == "mixture" and not self.sources:
            wrong.append("sources: data=mixture needs at least one, e.g. +data.sources.news.path=news/")
        if not self.boundaries and self.packing != "packed":
            wrong.append(f"boundaries: data.packing={self.packing} keeps documents apart; leave data.boundaries=true")
        if self.name == "mixture" and self.path:
            wrong.append("path: the texts of a mixture stand in data.sources")
        if not self.mixes and (self.sources or self.alpha != 1 or any(s.weights for s in self.stages)):
            wrong.append("sources: only data=mixture reads sources, alpha and the weights of stages; add data=mixture")
        weights = [source.weight for source in self.sources.values()]
        if None in weights and any(weight is not None for weight in weights):
            unstated = ", ".join(name for name, source in self.sources.items() if source.weight is None)
            wrong.append(f"sources: state the weight of every source or of none; there is none of {unstated}")
        elif weights and None not in weights and not sum(weight or 0 for weight in weights):
            wrong.append("sources: all weights are 0; at least one must be more")
        for number, stage in enumerate(self.stages[:-1]):
            if "tokens" not in stage.model_fields_set:
                wrong.append(f"stages[{number}].tokens: state how long it is; only the last stage holds to the end")
        origins = [*self.sources, *self.pairs]
        for number, stage in enumerate(self.stages if self.mixes else ()):
            for name, weight in stage.weights.items():
                if name not in origins:
                    wrong.append(f"stages[{number}].weights: no source {name!r}{nearest(name, origins)}")
                elif not 0 <= weight < math.inf:
                    wrong.append(f"stages[{number}].weights.{name}: {weight} is no share; it must be 0 or more")
            if stage.weights and not sum(stage.weights.values()) > 0:
                wrong.append(f"stages[{number}].weights: they sum to 0; at least one must be more")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self
