"""Pages can be read: contrast of text as WCAG 2.1 (1.4.3) defines it, in a light and in a dark scheme."""

from __future__ import annotations

import re

import pytest

from trainer.report.html_template import html_document


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance of an sRGB colour."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_the_papers_own_examples() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21.0) and contrast("#777777", "#fff") == pytest.approx(
        4.48, abs=0.01
    )


def test_all_text_has_contrast_in_both_schemes() -> None:
    page = html_document("t", "u", {})
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", part)) for part in re.findall(r":root \{[^}]*\}", page)]
    assert len(schemes) == 2 and "prefers-color-scheme: dark" in page
    for scheme in schemes:
        for text in ("ink", "faint"):
            for ground in ("paper", "shade"):
                assert contrast(scheme[text], scheme[ground]) >= 4.5, (scheme, text, ground)
    colours = {colour for colour in re.findall(r"(?<!-)color: ([^;]+);", page)}
    assert colours <= {"var(--ink)", "var(--faint)"}
