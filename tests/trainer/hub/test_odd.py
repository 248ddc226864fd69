"""What a key of config.json changes in transformers, it changes here, or it is refused by its name."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("transformers")

from odd import ODD, build

from trainer.hub import import_run, read_checkpoint
from trainer.utils.errors import UserError

FEW = [
    case for case in ODD if case.id in ("LlamaForCausalLM-1", "RobertaForMaskedLM-2", "T5ForConditionalGeneration-2")
]
FEW += [case for case in ODD if case.id in ("ModernBertForMaskedLM-0", "ModernBertForMaskedLM-5", "GPT2LMHeadModel-0")]


def equal_or_refused(kind, config, usual, changes, refused, folder):
    if refused is None:
        build(kind, config, usual | changes).save_pretrained(folder / "theirs")
        facts = import_run(folder / "theirs", folder / "run", check=True)
        assert facts["exact"], facts["check"]
        return
    build(kind, config, usual).save_pretrained(folder / "theirs")
    file = folder / "theirs" / "config.json"
    given = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in given.items() if key != "layer_types"} | changes))
    with pytest.raises(UserError, match=refused) as error:
        read_checkpoint(folder / "theirs")
    assert len(str(error.value).splitlines()) == 1 and "config.json" in str(error.value)


@pytest.mark.parametrize(("kind", "config", "usual", "changes", "refused"), FEW)
def test_a_few(kind, config, usual, changes, refused, tmp_path):
    equal_or_refused(kind, config, usual, changes, refused, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "config", "usual", "changes", "refused"), [case for case in ODD if case not in FEW])
def test_all(kind, config, usual, changes, refused, tmp_path):
    equal_or_refused(kind, config, usual, changes, refused, tmp_path)


def test_there_are_three_of_a_type_and_sixty_in_all():
    kinds = [case.values[1] for case in ODD]
    assert len(kinds) >= 60 and min(map(kinds.count, kinds)) >= 3 and len(set(kinds)) == 28
