"""How near an imported model is to transformers': the largest difference of what both compute of a random batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.generation.loaded_model import load_model, writer_of
from trainer.hub.files import read_json
from trainer.hub.reading import Imported
from trainer.utils.errors import UserError

ALLOWED = 2e-5  # of the spread of what is compared
ROWS, LENGTH, SEED = 3, 24, 0  # of the batch


@dataclass(frozen=True)
class Difference:
    """Of all values that two models compute."""

    what: str
    values: int
    largest: float  # absolute
    spread: float  # standard deviation of transformers' values

    @property
    def relative(self) -> float:
        return self.largest / self.spread if self.spread > 0 else self.largest

    def __str__(self) -> str:
        return (
            f"largest difference {self.largest:.2e}, {self.relative:.2e} of the spread, in {self.values:,} {self.what}"
        )


@torch.no_grad()
def compare(source: Path, run: Path, imported: Imported) -> Difference:
    """Compare the imported run with what transformers makes of the folder `source`, in fp32 on the CPU.

    Where the head of pre-training was drawn, hidden states are compared. Raises UserError where the extra is missing.
    """
    try:
        import transformers
    except ImportError:
        raise UserError("import --check needs the extra: pip install 'isoflop[hub]'") from None
    net, config, _ = load_model(run)
    net = writer_of(net).cpu()
    body = any(part.startswith("head.") for part in imported.drawn)
    kind: Any = transformers.AutoModel if body else getattr(transformers, imported.architecture)
    theirs = kind.from_pretrained(source, dtype=torch.float32).eval()
    length = min(LENGTH, config.max_length, config.data.sequence_length)
    got, want = [], []
    pools = config.task.pools and config.model.family == "encoder_decoder"
    end = (config.tokenizer.special_ids.eos or ())[:1] if pools else ()
    for batch, arguments in _batches(source, config.model.family, config.model.vocabulary or 1, length, end):
        want.append(_theirs(theirs(**arguments), body).float())
        ours = net.hidden_states(**batch) if body else net.logits(**batch)
        got.append(ours.float().reshape(want[-1].shape))
    found, right = torch.stack(got), torch.stack(want)
    spread = float(right.std()) if right.numel() > 1 else 0.0
    what = "hidden states" if body else f"logits of {imported.architecture}"
    return Difference(what, right.numel(), float((found - right).abs().max()), spread)


def _theirs(output: Any, body: bool) -> Tensor:
    if body:
        return output.last_hidden_state  # type: ignore[no-any-return]
    if "start_logits" in output:
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    return output.prediction_logits if "prediction_logits" in output else output.logits  # type: ignore[no-any-return]


def _batches(
    source: Path, family: str, vocabulary: int, length: int, end: Sequence[int] = ()
) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Rows of random tokens, without those that config.json names as special: for ours and for transformers.

    end: the tokens that a source ends with, at which an encoder-decoder's classes are read."""
    config = read_json(source / "config.json")
    special = {value for key, value in config.items() if key.endswith("_token_id") and isinstance(value, int)}
    usable = torch.tensor([one for one in range(vocabulary) if one not in special] or [0])
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for _ in range(ROWS):
        tokens = usable[torch.randint(len(usable), (1, length), generator=generator)]
        tokens[:, length - len(end) :] = torch.tensor(end, dtype=torch.int64)
        whole = {"segments": torch.zeros_like(tokens), "positions": torch.arange(length)[None]}
        ours, theirs = {"tokens": tokens, **whole}, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if family == "encoder_decoder":
            written = usable[torch.randint(len(usable), (1, length), generator=generator)]
            ours = {"tokens": written, **whole, **{f"source_{name}": value for name, value in ours.items()}}
            theirs["decoder_input_ids"] = written
        if family == "encoder":
            ours["inside"] = torch.ones_like(tokens)  # where an answer may stand: everywhere
        rows.append((ours, theirs))
    return rows
