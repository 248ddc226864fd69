"""Two sentences that differ in one word, of which grammar allows one: the design of BLiMP (Warstadt et al. 2020).

The sentences are made here from a small grammar. The kinds with an attractor put a noun of the other number or gender
between the words that have to agree, so that counting words does not help.
"""

from __future__ import annotations

import random

from trainer.evaluate.suite.example import Example, Make, Split, draw, shuffled

NOUNS = {  # singular: (plural, its reflexive, or None where both are possible)
    "boy": ("boys", "himself"),
    "girl": ("girls", "herself"),
    "man": ("men", "himself"),
    "woman": ("women", "herself"),
    "king": ("kings", "himself"),
    "queen": ("queens", "herself"),
    "uncle": ("uncles", "himself"),
    "aunt": ("aunts", "herself"),
    "teacher": ("teachers", None),
    "student": ("students", None),
    "writer": ("writers", None),
    "driver": ("drivers", None),
}
THINGS = {"key": "keys", "letter": "letters", "picture": "pictures", "table": "tables", "box": "boxes", "book": "books"}
PREPOSITIONS = ("near", "behind", "beside", "next to")
ADJECTIVES = ("old", "small", "new", "heavy", "clean", "ready")
VERBS = ("saw", "helped", "hurt", "blamed", "described", "praised", "admired", "watched")
PARTICIPLES = ("failed", "laughed", "travelled", "complained", "smoked", "voted")
SUBJECT_VERBS = (("is", "are"), ("was", "were"), ("has been", "have been"))


def agreement(chance: random.Random) -> Example:
    """The verb agrees with its subject: `the keys near the box are old`."""
    noun, other = chance.sample(sorted({**THINGS, **{n: p for n, (p, _) in NOUNS.items()}}.items()), 2)
    number = chance.randrange(2)
    kind = chance.choice(("plain", "attractor", "relative clause"))
    subject = f"the {noun[number]}"
    if kind == "attractor":
        subject += f" {chance.choice(PREPOSITIONS)} the {other[1 - number]}"
    elif kind == "relative clause":
        person = chance.choice(sorted(NOUNS))
        subject += f" that the {person if number else NOUNS[person][0]} {chance.choice(VERBS)}"
    verbs, adjective = chance.choice(SUBJECT_VERBS), chance.choice(ADJECTIVES)
    right, wrong = (f"{subject} {verbs[n]} {adjective}." for n in (number, 1 - number))
    return shuffled(chance, "", right, [wrong], kind)


def reflexives(chance: random.Random) -> Example:
    """A reflexive agrees with the subject of its clause: `the girls who saw the king hurt themselves`."""
    gendered = sorted(name for name, (_, pronoun) in NOUNS.items() if pronoun)
    noun = chance.choice(gendered)
    own = NOUNS[noun][1]
    other = chance.choice([name for name in gendered if NOUNS[name][1] != own])
    kind = chance.choice(("number", "gender", "attractor"))
    plural = kind == "number" and chance.random() < 0.5
    subject = f"the {NOUNS[noun][0] if plural else noun}"
    right = "themselves" if plural else str(own)
    wrong = str(own) if plural else "themselves"
    if kind != "number":
        wrong = str(NOUNS[other][1])
    if kind == "attractor":
        subject += f" who {chance.choice(VERBS)} the {other}"
    verb = chance.choice(VERBS)
    return shuffled(chance, "", f"{subject} {verb} {right}.", [f"{subject} {verb} {wrong}."], kind)


def polarity(chance: random.Random) -> Example:
    """`ever` and `any` need a negation that governs them: `no student has ever failed`."""
    noun, (plural, _) = chance.choice(sorted(NOUNS.items()))
    other = chance.choice([name for name in sorted(NOUNS) if name != noun])
    kind = chance.choice(("ever", "any", "not governing"))
    if kind == "ever":
        rest = f"{noun} has ever {chance.choice(PARTICIPLES)}."
        right, wrong = f"no {rest}", f"{chance.choice(('some', 'this', 'the'))} {rest}"
    elif kind == "any":
        have, things = "did {} see any", chance.choice(sorted(THINGS.values()))
        right = f"the {plural} {have.format('not')} {things}."
        wrong = f"the {plural} {have.format('also')} {things}."
    else:  # the negation is inside the relative clause, too deep to govern
        participle, verb = chance.choice(PARTICIPLES), chance.choice(VERBS)
        right = f"no {noun} who {verb} the {other} has ever {participle}."
        wrong = f"the {noun} who {verb} no {other} has ever {participle}."
    return shuffled(chance, "", right, [wrong], kind)


PAIRS: dict[str, Make] = {"agreement": agreement, "reflexives": reflexives, "polarity": polarity}


def acceptability(split: Split, count: int, seed: int) -> list[Example]:
    """One sentence of each of `count` pairs, to be judged: a task of classification."""
    chance = random.Random(f"acceptability/{split}/{seed}")
    names = sorted(PAIRS)
    found = []
    for number, name in enumerate(names):
        share = len(range(number, count, len(names)))
        for pair in draw(name, PAIRS[name], split, share, seed):
            label = chance.randrange(2)
            sentence = pair.choices[pair.label if label else 1 - pair.label]
            found.append(Example(sentence, ("unacceptable", "acceptable"), label, f"{name}, {pair.kind}"))
    chance.shuffle(found)
    return found
