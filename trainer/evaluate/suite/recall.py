"""Tasks that only their examples define: the same letters are to be copied, turned around, or looked up.

Without examples in the context it cannot be known which; so the score over the number of examples is the in-context
curve (Brown et al. 2020, figure 1.2, has such tasks of symbols). Sixteen examples and a question fit into 256 tokens
where every sign is one.
"""

from __future__ import annotations

import random
import string

from trainer.evaluate.suite.example import Example, shuffled

LENGTH = 5  # letters of a sequence


def copy(chance: random.Random) -> Example:
    """`q d h z b =>` -> the same letters."""
    letters = chance.sample(string.ascii_lowercase, LENGTH)
    return _sequence(chance, letters, letters)


def reverse(chance: random.Random) -> Example:
    """`q d h z b =>` -> the letters from right to left."""
    letters = chance.sample(string.ascii_lowercase, LENGTH)
    return _sequence(chance, letters, letters[::-1])


def _sequence(chance: random.Random, letters: list[str], answer: list[str]) -> Example:
    """Wrong are the other direction and two random orders: the right letters are in all choices."""
    others = [answer[::-1], *(chance.sample(letters, LENGTH) for _ in range(4))]
    wrong = [" ".join(other) for other in others if other != answer]
    return shuffled(chance, f"{' '.join(letters)} =>", " ".join(answer), list(dict.fromkeys(wrong))[:3])


def recall(chance: random.Random) -> Example:
    """`h Q c T m A k W c =>` -> T, the value that stood behind the key."""
    keys, values = chance.sample(string.ascii_lowercase, 4), chance.sample(string.ascii_uppercase, 4)
    pairs = dict(zip(keys, values, strict=True))
    asked = chance.choice(keys)
    text = " ".join([*(f"{key} {value}" for key, value in pairs.items()), asked])
    return shuffled(chance, f"{text} =>", pairs[asked], values)
