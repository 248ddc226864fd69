"""Parts of parameters, and masks in bits."""

from __future__ import annotations

import pytest
import torch

from trainer.models.expert_ranks import ExpertRanks, first_element, own_part, packed, unpacked, whole_shape


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 40])
def test_bits_come_back(channels: int) -> None:
    kept = torch.rand(5, channels, generator=torch.Generator().manual_seed(0)) > 0.3
    bits = packed(kept)
    assert bits.dtype == torch.uint8 and bits.shape == (5, -(-channels // 8))
    assert unpacked(bits, channels).equal(kept)
    assert unpacked(packed(kept[:0]), channels).shape == (0, channels)


def test_parts_make_the_whole() -> None:
    whole, parts = torch.arange(24.0).view(6, 2, 2), []
    for rank in range(3):
        part = torch.nn.Parameter(torch.empty(2, 2, 2))
        marked: list[torch.nn.Parameter] = []
        ExpertRanks("three", rank, 3, None, None, marked.append).share(part)  # type: ignore[arg-type]
        assert marked == [part] and whole_shape(part) == (6, 2, 2)
        parts.append(own_part(part, whole))
        assert whole.flatten()[first_element(part)] == parts[-1].flatten()[0]
    assert torch.cat(parts).equal(whole)
