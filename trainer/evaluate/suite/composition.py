"""Meaning put together from parts: commands to actions and sentences to logical forms.

`commands` is SCAN's grammar (Lake and Baroni 2018, arXiv 1711.00350, figure 1 and section 2); `forms` is a small
grammar of COGS's kind (Kim and Linzen 2020, arXiv 2010.05465). Both hold out of training what composition should give
for free: the `kind` of a test example tells whether it is like the training examples or goes beyond them.
"""

from __future__ import annotations

import random
from itertools import permutations

from trainer.evaluate.suite.example import Example, Split, quarter, shuffled

# --- commands ------------------------------------------------------------------------------------

MOVES = ("walk", "run", "look", "jump")
LONGEST_IN_TRAINING = 22  # actions, as in SCAN's split by length
REPEATS = {"twice": 2, "thrice": 3}


def commands(chance: random.Random) -> Example:
    """`jump around left twice and walk` -> the actions. Kinds: seen, new word (`jump` is trained alone), longer."""
    parts = [_phrase(chance) for _ in range(chance.choice((1, 2, 2)))]
    link = chance.choice(("and", "after"))
    text = f" {link} ".join(command for command, _ in parts)
    spoken = [actions for _, actions in parts]
    done = spoken[::-1] if link == "after" else spoken
    actions = [action for part in done for action in part]
    wrong = [
        [action for part in done[::-1] for action in part],
        [_mirrored(action) for action in actions],
        [*actions[: -len(done[-1])], done[-1][0]] if len(done[-1]) > 1 else [*actions, actions[-1]],
        actions[:1] + actions,
    ]
    kind = "seen"
    if "jump" in text and text != "jump":
        kind = "new word"
    elif len(actions) > LONGEST_IN_TRAINING:
        kind = "longer"
    others = [" ".join(other) for other in wrong if other != actions][:3]
    return shuffled(chance, f"{text} =>", " ".join(actions), others, kind)


def _phrase(chance: random.Random) -> tuple[str, list[str]]:
    """A verb phrase, its repetitions included, and its actions."""
    verb = chance.choice((*MOVES, "turn"))
    own = [] if verb == "turn" else [verb.upper()]
    side = chance.choice(("left", "right"))
    turn = f"TURN-{side.upper()}"
    manner = chance.choice(("towards", "opposite", "around") + (() if verb == "turn" else ("",)))
    command, actions = {
        "": (verb, own),
        "towards": (f"{verb} {side}", [turn, *own]),
        "opposite": (f"{verb} opposite {side}", [turn, turn, *own]),
        "around": (f"{verb} around {side}", [turn, *own] * 4),
    }[manner]
    repeat = chance.choice(("", "twice", "thrice"))
    return f"{command} {repeat}".strip(), actions * REPEATS.get(repeat, 1)


def _mirrored(action: str) -> str:
    return {"TURN-LEFT": "TURN-RIGHT", "TURN-RIGHT": "TURN-LEFT"}.get(action, action)


# --- logical forms ---------------------------------------------------------------------------------

PEOPLE = ("girl", "boy", "cat", "dog", "teacher", "child", "king", "bird")
ONLY_RECEIVING = ("hedgehog", "visitor")  # in training never the one who acts
OBJECTS = ("cake", "box", "ball", "hat", "key", "book", "rose", "cup")
PLACES = ("table", "tree", "house", "garden", "stage", "room")
ACTS = {"saw": "see", "helped": "help", "liked": "like", "found": "find"}
PASSIVE = {"saw": "seen"}
GIFTS = {"gave": "give", "sent": "send", "showed": "show", "lent": "lend"}
DEEPEST_IN_TRAINING = 1  # nested phrases of place


def forms(chance: random.Random) -> Example:
    """`the girl gave the cake to the boy` -> `give(girl, cake, boy)`. Kinds: seen, new role, deeper."""
    people = chance.sample((*PEOPLE, *ONLY_RECEIVING), 2)
    thing, depth = chance.choice(OBJECTS), chance.choice((0, 0, 1, 1, 2, 3))
    nest = [thing, *chance.sample(PLACES, depth)]
    where = [chance.choice(("in", "on", "beside")) for _ in range(depth)]
    phrase = f"the {thing}" + "".join(f" {how} the {place}" for how, place in zip(where, nest[1:], strict=True))
    nested = [f"{how}({inner}, {outer})" for how, inner, outer in zip(where, nest, nest[1:], strict=False)]
    if chance.random() < 0.5:
        verb, meaning = chance.choice(sorted(GIFTS.items()))
        roles = [people[0], thing, people[1]]
        text = chance.choice(
            (f"the {people[0]} {verb} {phrase} to the {people[1]}", f"the {people[0]} {verb} the {people[1]} {phrase}")
        )
    else:
        verb, meaning = chance.choice(sorted(ACTS.items()))
        roles = [people[0], thing]
        done = PASSIVE.get(verb, verb)
        text = chance.choice((f"the {people[0]} {verb} {phrase}", f"{phrase} was {done} by the {people[0]}"))
    answer, *others = (" and ".join([f"{meaning}({', '.join(order)})", *nested]) for order in permutations(roles))
    kind = "seen"
    if people[0] in ONLY_RECEIVING:
        kind = "new role"
    elif depth > DEEPEST_IN_TRAINING:
        kind = "deeper"
    return shuffled(chance, f"{text} =>", answer, others[:3], kind)


def composed(example: Example) -> Split:
    """What goes beyond training is for testing, and of the rest a quarter."""
    return "test" if example.kind != "seen" else quarter(example.text)
