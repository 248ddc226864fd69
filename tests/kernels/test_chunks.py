"""The books of the trainer count the chunks of the fused loss without importing it; here both are asked."""

from __future__ import annotations

import pytest

from kernels.loss.op import rows_per_chunk

booked = pytest.importorskip("trainer.books.activations").rows_per_chunk  # a bare GPU image lacks what it imports


@pytest.mark.parametrize("tokens", [1, 100, 128, 1024, 16384, 65536])
@pytest.mark.parametrize("classes", [300, 2048, 50257, 256000])
@pytest.mark.parametrize("element_bytes", [2, 4])
def test_same_chunks(tokens, classes, element_bytes):
    assert booked(tokens, classes, element_bytes) == rows_per_chunk(tokens, classes, element_bytes, 0)
