"""Models that cannot be: one line each, naming the key and the way out."""

from __future__ import annotations

import pytest

from trainer.cli.main import main
from trainer.compose import compose

CASES = [
    (["model=gpt2-124"], "model=gpt2-124: no such option (did you mean 'gpt2-124m'?)"),
    (
        ["model.width=256", "model.heads=3", "model.kv_heads=1"],
        "model.heads: 3 does not divide width 256; choose a divisor or set model.head_size",
    ),
    (["model.heads=8", "model.kv_heads=3"], "model.kv_heads: 3 does not divide heads 8"),
    (["model.head_size=63"], "model.head_size: rotary positions need an even number of channels per head, got 63"),
    (["model=pythia-14m", "model.rotary_fraction=0.1"], "even number of channels"),
    (["model=gpt2-124m", "data.sequence_length=2048"], "2048 is longer than model.max_length 1024"),
    (["model=t5-small", "model.relative_buckets=7"], "model.relative_buckets: 7 must be even"),
    (["model=olmo2-1b", "model.parallel=true"], "model.parallel: needs model.norm_position=pre, got reordered"),
    (["model=t5-small", "model.two_stream=true"], "model.two_stream: only an encoder has it"),
    (["model=llama-mini", "model.position=relative"], "model.position: relative needs model.family=encoder"),
    (["model=roberta-base", "model.sentence_head=true"], "model.sentence_head: needs model.pooler=pretraining"),
    (["model=electra-small", "model.generator_heads=5"], "model.generator_heads: 5 does not divide generator_width 64"),
    (["model=gpt2-124m", "model.vocabulary=100"], "model.vocabulary: 100 is smaller than tokenizer.vocabulary"),
    (["model.depht=3"], "model.depht: no such key (did you mean 'model.depth'?)"),
    (["model.norm_position=middle"], "model.norm_position: 'middle' given"),
    (["model.size=5m", "model.depth=3"], "model.depth: model.size sets it; give one of the two"),
    (["model=bert-base", "objective=permuted_lm"], "objective=permuted_lm needs model.two_stream=true"),
    (["model=bert-base", "objective=replaced_token"], "objective=replaced_token needs a generator"),
    (["model=electra-small", "objective=masked_lm"], "take objective=replaced_token"),
    (["model=roberta-base", "objective=bert"], "needs model.sentence_head=true"),
    (["model=xlnet-base", "objective=unilm"], "needs model.two_stream=false"),
    (["model=llama-mini", "model.position=disentangled"], "model.position: disentangled needs model.family=encoder"),
    (["model=t5-small", "model.relative_buckets=null"], "model.relative_buckets: null is for position=disentangled"),
    (["model=deberta-v3-base", "model.relative_distance=100"], "relative_distance: 100 must be above half of"),
    (["model=deberta-v3-base", "model.relative_terms=p2p"], "model.relative_terms: 'p2p' given"),
    (["model=deberta-v3-base", "objective=masked_lm"], "take objective=replaced_token"),
    (["model=deberta-v3-base", "model.generator_depth=0"], "model.generator_depth: 0 given"),
    (["model=deberta-v3-base", "model.score_softcap=9"], "model.score_softcap: position=disentangled scores"),
    (["model.size=5m", "model=deberta-mini", "model.generator_depth=2"], "model.generator_depth: model.size sets it"),
]


@pytest.mark.parametrize(("words", "told"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_one_line(words, told, capsys):
    assert main(["model", *words]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert told in errors[0], errors
    assert len(errors) == 1 or "roberta" in words[0]


@pytest.mark.parametrize(
    ("model", "objective"),
    [("t5-small", "causal"), ("gpt2-124m", "masked_lm"), ("llama-mini", "span_corruption"), ("bert-base", "causal")],
)
def test_an_objective_that_the_family_cannot_serve(model, objective, capsys, tmp_path):
    assert main(["train", f"model={model}", f"objective={objective}", f"run.root={tmp_path}"]) == 2
    errors = capsys.readouterr().err
    assert f"objective={objective} trains" in errors and "family" in errors
    assert not list(tmp_path.rglob("checkpoints"))


def test_a_generator_has_key_heads_that_fit_it():
    electra = compose(["model=electra-mini", "model.heads=4", "model.kv_heads=4", "model.generator_heads=2"]).model
    deberta = compose(["model=deberta-mini", "model.heads=2", "model.kv_heads=2", "model.generator_heads=4"]).model
    assert electra.generator.key_heads == 2 and deberta.generator.key_heads == 4
