"""Languages that a model is told of the text it reads, by an embedding beside that of the positions (XLM)."""

from __future__ import annotations


def language_misfits(languages: tuple[str, ...], family: str) -> list[str]:
    """What is wrong with `model.languages`: a line for each."""
    if not languages:
        return []
    wrong = []
    if family != "encoder":
        wrong.append(f"languages: only an encoder is told the language of a text, model.family is {family}")
    if len(languages) < 2:
        wrong.append(f"languages: {languages[0]} alone tells the model nothing; name two or more, or none")
    if twice := sorted({one for one in languages if languages.count(one) > 1}):
        wrong.append(f"languages: {', '.join(twice)} stands there more than once")
    return wrong
