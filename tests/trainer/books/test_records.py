"""Files of JSON lines, as they are found: what is parsed together says what is parsed line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.books.records import read_lines
from trainer.utils.errors import UserError

VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text("ab{}[],:\"'\\é", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab}{", max_size=2), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.dictionaries(st.sampled_from(["kind", "step", "price"]), VALUES, min_size=1)


@st.composite
def files(draw: Any) -> bytes:
    """Records as they are written, some of them torn, some of them not UTF-8, and lines of something else."""
    lines = []
    for record in draw(st.lists(RECORDS, max_size=40)):
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
        how = draw(st.integers(0, 9))
        if how == 0:
            line = line[: draw(st.integers(0, len(line)))]
        elif how == 1:
            line = draw(
                st.sampled_from([b"\xff" + line, b"[1]", b"", b"NaN", b"{}", b"\x00", b"}", b"{", line + b",{}"])
            )
        lines.append(line)
    return b"\n".join(lines) + draw(st.sampled_from([b"", b"\n", b'\n{"kind":"st']))


@settings(deadline=None, max_examples=150)
@given(content=files())
def test_every_whole_object_is_read_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "records.jsonl"
    path.write_bytes(content)
    expected = []
    for line in content.split(b"\n"):
        try:
            item = json.loads(line)
        except ValueError:
            continue
        expected += [item] if isinstance(item, dict) else []
    if not expected and content.count(b"\n") > 1:
        with pytest.raises(UserError, match="none of its"):
            read_lines(path)
    else:
        assert read_lines(path) == expected


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "nothing") == []
    with pytest.raises(UserError, match="a folder given, a file wanted"):
        read_lines(tmp_path)
