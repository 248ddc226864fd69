"""What attention means: one specification that every backend implements.

With `scores = q k^T * scale`, in this order:

1. `softcap > 0`: scores = softcap * tanh(scores / softcap)  (Gemma 2, arXiv 2408.00118, section 2)
2. `bias`: scores += bias                                    (ALiBi, a T5 bucket table, or a dense tensor)
3. visibility: scores = -inf where the query may not see the key
4. softmax over keys, with exp(sink) added to the denominator if there is a sink (StreamingLLM, arXiv 2309.17453)
5. dropout on the probabilities, then the product with v

Positions are aligned at the bottom right: query row i stands at key position i + Sk - Sq. Causality, window, ALiBi
and T5 bias are all functions of the relative position `j - (i + Sk - Sq)`. Where queries and keys are parts of a longer
sequence, `places` says where each begins in it, and the relative position is that of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MAX_HEAD_DIM = 256


@dataclass(frozen=True)
class Alibi:
    """Attention with linear biases (Press et al., arXiv 2108.12409): `-slope * |relative position|`.

    slopes: float [H] or [B, H]. They carry no gradient.
    """

    slopes: Tensor


@dataclass(frozen=True)
class T5Bias:
    """Relative position buckets (Raffel et al., arXiv 1910.10683, section 2.1), with gradient to the table.

    table: [num_buckets, H]. Half of the buckets count single positions, the other half grows logarithmically up to
    `max_distance`; with `bidirectional`, half of all buckets is for keys after the query.
    """

    table: Tensor
    bidirectional: bool = True
    num_buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True)
class Dense:
    """An additive bias, with gradient. tensor: 4-D, broadcastable to [B, H, Sq, Sk]."""

    tensor: Tensor


Bias = Alibi | T5Bias | Dense


@dataclass(frozen=True)
class AttentionSpec:
    """The normalised arguments of one attention call. All index tensors are int32 of shape [B or 1, length], a pair of
    them with as many rows.

    left, right: keys visible before and after the query's position, None for no bound (`causal` is right = 0).
    q_segments, k_segments: a query sees a key of the same segment; a negative segment sees and is seen by nothing.
    kv_lens: [B or 1], keys at and after it are invisible.
    q_order, k_order: rank in a factorization order; a key is visible if its rank is <= (`strict`: <) the query's.
    places: positions of the first query and the first key in the sequence that they are parts of.
    dropout_rows: int64 [B], the numbers that stand for the batch rows in dropout's counter; None: 0 to B - 1.
    """

    left: int | None = None
    right: int | None = None
    bias: Bias | None = None
    q_segments: Tensor | None = None
    k_segments: Tensor | None = None
    kv_lens: Tensor | None = None
    q_order: Tensor | None = None
    k_order: Tensor | None = None
    strict: bool = False
    softcap: float = 0.0
    sink: Tensor | None = None
    dropout_p: float = 0.0
    seed: int | Tensor | None = None
    dropout_rows: Tensor | None = None
    scale: float = 1.0
    return_lse: bool = False
    places: tuple[int, int] | None = None

    def shift(self, q_len: int, k_len: int) -> int:
        """The number of the key at the position of the first query."""
        return k_len - q_len if self.places is None else self.places[0] - self.places[1]

    def fields(self, q_len: int, k_len: int) -> tuple[str, ...]:
        """The names of what is used beyond a plain softmax, by which `kernels.choice` chooses a backend."""
        used = {
            "softcap": self.softcap > 0.0,
            "sink": self.sink is not None,
            "return_lse": self.return_lse,
            "dropout_p": self.dropout_p > 0.0,
            "places": self.places is not None,
            "dense": isinstance(self.bias, Dense),
            "t5": isinstance(self.bias, T5Bias),
            "alibi": isinstance(self.bias, Alibi),
            "order": self.q_order is not None,
            "segments": self.q_segments is not None,
            "kv_lens": self.kv_lens is not None,
            "window": self.left is not None or self.right not in (None, 0),
            "causal": self.right == 0,
            "offset": self.right == 0 and q_len not in (1, k_len),
            "one_query": q_len == 1,
        }
        return tuple(name for name, on in used.items() if on)

    @property
    def plain(self) -> bool:
        """Nothing hides a key but, perhaps, causality."""
        unbounded = self.left is None and (self.right is None or self.right == 0)
        return unbounded and self.q_segments is None and self.kv_lens is None and self.q_order is None
