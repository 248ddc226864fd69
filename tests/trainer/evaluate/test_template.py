"""Templates of task files: what they may do, and that their work is bounded."""

from __future__ import annotations

import resource
import sys

import pytest

from trainer.evaluate.tasks.template import TooMuchWork, render


def test_a_template_of_a_task() -> None:
    text = "{% for one in answers %}{{ loop.index }}. {{ one|upper }}\n{% endfor %}{{ (q ~ '!') * 2 }} {{ 2 ** 10 }}"
    assert render(text, {"q": "why", "answers": ["a", "b"]}) == "1. A\n2. B\nwhy!why! 1024"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(1000000000) %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 10 ** 400000 }}",
        "{{ 'a' * 10000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a'|center(10 ** 10) }}",
        "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
        "{% set n = namespace(x='ab') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ ().__class__.__base__.__subclasses__() }}",
    ],
)
def test_what_would_not_end_is_an_error(template: str) -> None:
    limits, trace = resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()
    with pytest.raises(Exception) as caught:
        render(template, {})
    assert not isinstance(caught.value, MemoryError)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits and sys.gettrace() is trace


def test_the_steps_are_those_of_the_template_alone() -> None:
    """Many small renderings are as good as one."""
    for _ in range(300):
        render("{% for a in range(100) %}{{ a }}{% endfor %}", {})
    with pytest.raises(TooMuchWork, match="steps"):
        render("{% for a in range(90000) %}{{ a }}{% endfor %}", {})
