"""The document and offset that are told of a sample are where its tokens stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.config import Config
from trainer.data import Samples, prepare
from trainer.data.shards import TokenStream


@pytest.mark.parametrize(
    ("objective", "packing"), [("causal", "packed"), ("causal", "padded"), ("span_corruption", "packed")]
)
def test_the_sample_begins_there(objective: str, packing: str, corpus: Path, cache: Path) -> None:
    plain = Config().model_dump(mode="json")
    plain["data"] |= {"name": "text", "path": [str(corpus)], "sequence_length": 32, "packing": packing}
    plain["tokenizer"]["vocabulary"] = 512
    plain["objective"]["name"] = objective
    plain["model"]["family"] = "encoder_decoder" if objective == "span_corruption" else "decoder"
    plain["run"]["cache"] = str(cache)
    config = Config.model_validate(plain)
    prepared = prepare(config)
    samples, stream = Samples(prepared, config, "train"), TokenStream(prepared, "train")
    text = np.empty((1, len(stream)), np.int64)
    stream.read(np.zeros(1, np.int64), text)
    window = samples.window(40, 60)
    for row, (document, offset) in enumerate(samples.where(40, 60)):
        begin = stream.starts[document]
        end = stream.starts[document + 1] if document + 1 < len(stream.starts) else len(stream)
        whole = text[0, begin:end]
        if objective == "span_corruption":  # its text has neither <s> nor </s>
            whole = whole[1:-1]
        first = row if window.owner is None else int(np.searchsorted(window.owner, row))
        inside = window.tokens[first][: len(whole) - offset]
        inside = inside[: int(window.lengths[first])]
        assert offset >= 0
        assert inside.tolist() == whole[offset : offset + len(inside)].tolist()
        assert len(inside) > 0
