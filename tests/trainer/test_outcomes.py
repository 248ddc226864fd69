"""Exit codes and words of an end are interface (docs/interface.md), and each end has one of both."""

from __future__ import annotations

import json

from trainer.run_folder import LAST_WORDS
from trainer.utils.outcomes import (
    BAD_INPUT,
    DONE,
    EXIT_CODES,
    FAILED,
    HALTED,
    SAID,
    STOPPED,
    TRAINED,
    ExitCode,
    Status,
)


def test_codes_and_words_are_those_of_the_interface() -> None:
    assert {one.name: int(one) for one in ExitCode} == {
        **{"DONE": 0, "FAILED": 1, "BAD_INPUT": 2},
        **{"HALTED": 3, "STOPPED": 75},
    }
    words = {"finished": 0, "failed": 1, "halted": 3, "stopped": 75}
    assert json.loads(json.dumps({str(status): code for status, code in EXIT_CODES.items()})) == words
    assert f"exit {ExitCode.STOPPED}" == "exit 75" and str(ExitCode.BAD_INPUT) == "2"
    assert json.dumps([Status.FINISHED, ExitCode.HALTED]) == '["finished", 3]'


def test_who_ends_a_run_and_who_reads_its_end_speak_of_the_same() -> None:
    assert (DONE, FAILED, BAD_INPUT, HALTED, STOPPED) == (0, 1, 2, 3, 75)
    assert set(SAID) <= set(LAST_WORDS) and Status.INTERRUPTED not in LAST_WORDS
    assert sorted(TRAINED) == [0, 1, 3, 75]
