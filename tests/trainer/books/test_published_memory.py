"""Planned memory of a GPU against what others measured of set-ups of their own: `torch.cuda.max_memory_allocated`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from published_rows import CONF, GIST, LLAMA_7B, PUBLISHED, configuration

from trainer.books.activations import saved
from trainer.books.lengths import lengths
from trainer.books.memory import MemoryAccount, memory
from trainer.books.parameters import parameters
from trainer.config import Config

GIB = 2**30
# Of LLaMA-7B on 8 A800 (the gist of `published_rows`; its GB are 2^30 bytes: what offloading the weights' partitions
# takes off, 1.6, is 2 bytes x 6.74e9 / 8 = 1.57 GiB): allocated between passes, and at the peak.
PEAKS = {
    "LLaMA-7B stage 2 x 1": (19.4, 44.8),
    "LLaMA-7B stage 2 again x 1": (19.4, 23.5),
    "LLaMA-7B stage 2 again x 4": (27.2, 38.6),
    "LLaMA-7B stage 3 x 2": (14.8, 75.7),
    "LLaMA-7B stage 3 again x 2": (14.8, 20.4),
    "LLaMA-7B stage 3 again x 8": (17.7, 39.1),
}
# Those beyond 15%, with planned / published. Of the first the moments of Adam were not there yet; in the second as much
# more is there as all gathered weights (below).
NOT_MET = {"LLaMA-7B stage 2 again x 1": 1.32, "LLaMA-7B stage 3 x 2": 0.76}
# States in the host's memory, in fp32 here and in bf16 there: not met either.
OFFLOADED = {
    "LLaMA-7B stage 2 again x 1 offload": (16.9, 2.24),
    "LLaMA-7B stage 3 again x 2 offload": (9.4, 1.25),
    "LLaMA-7B stage 3 again x 4 offload": (7.9, 1.79),
}
NUMBERS, RANKS = 6.74e9, 8


def planned(name: str, **engine: Any) -> MemoryAccount:
    row = next(row for row in PUBLISHED if row.name == name)
    assert row.source == GIST
    return memory(configuration(row._replace(engine=row.engine | engine)))


@pytest.mark.parametrize("name", PEAKS)
def test_published_peaks_within_15_percent(name: str) -> None:
    ratio = planned(name).total / GIB / PEAKS[name][1]
    print(f"{name}: {PEAKS[name][1]} GiB published, planned / published {ratio:.2f}")
    if name in NOT_MET:
        assert ratio == pytest.approx(NOT_MET[name], abs=0.01)
    else:
        assert 0.85 < ratio < 1.15


@pytest.mark.parametrize("name", OFFLOADED)
def test_what_offloaded_states_leave_is_known_to_be_too_much(name: str) -> None:
    published, ratio = OFFLOADED[name]
    assert planned(name).total / GIB / published == pytest.approx(ratio, abs=0.01)


def test_where_adams_moments_were_not_there_yet() -> None:
    """What was allocated between passes at stage 2 with one sequence is less than weights, masters and moments."""
    numbers = parameters(configuration(next(row for row in PUBLISHED if row.name in PEAKS))).total
    assert numbers == pytest.approx(NUMBERS, rel=1e-3)
    whole, moments = (2 * numbers + 12 * numbers / RANKS) / GIB, 8 * numbers / RANKS / GIB
    for name in ("LLaMA-7B stage 2 x 1", "LLaMA-7B stage 2 again x 1"):
        allocated, peak = PEAKS[name]
        assert allocated < whole
        assert planned(name).total / GIB == pytest.approx(peak + moments, rel=0.06)
    assert PEAKS["LLaMA-7B stage 2 again x 4"][0] > whole


def test_weights_that_stay_gathered_explain_stage_3_without_recomputation() -> None:
    """An activation is the same at stages 2 and 3; what is left of the peak is as much as all weights in bf16."""
    between, peak = PEAKS["LLaMA-7B stage 3 x 2"]
    of_a_sequence = PEAKS["LLaMA-7B stage 2 x 1"][1] - PEAKS["LLaMA-7B stage 2 x 1"][0]
    weights = 2 * NUMBERS / GIB
    assert peak - between - 2 * of_a_sequence == pytest.approx(weights, rel=0.25)
    assert planned("LLaMA-7B stage 3 x 2", keep_gathered=True).total / GIB / peak == pytest.approx(0.91, abs=0.01)


@pytest.mark.parametrize(("width", "heads", "depth"), [(6144, 64, 48), (12288, 96, 96)])
def test_activations_of_a_layer(width: int, heads: int, depth: int) -> None:
    """Korthikanti et al. 2022, equation 2 and section 5: 34 s b h bytes a layer, without scores. Here 36: the input of
    two norms is fp32 (4 s b h more), and masks of dropout are drawn again (2 less)."""
    gpt = {"gated": False, "activation": "gelu", "norm": "layernorm", "position": "learned", "bias": True}
    config = Config.model_validate(
        {
            "model": gpt | {"width": width, "heads": heads, "depth": depth, "vocabulary": 51200, "dropout": 0.1},
            "data": {"sequence_length": 2048},
            "optim": {"batch_size": 8},
            "launch": {"processes": 8},
            "engine": {"micro_batch": 1, "activation_checkpointing": "selective", "compile": False},
            "machine": yaml.safe_load((CONF / "machine" / "a100-sxm-80gb.yaml").read_text()),
            "kernels": {"attention": "reference"},
        }
    )
    kept = saved(config, 1, *lengths(config)).kept / (depth * 2048 * width)
    assert kept == pytest.approx(36, abs=0.1) and abs(kept / 34 - 1) < 0.15


def test_half_the_weights_of_stage_2() -> None:
    """Whole in bf16, and a partition in fp32: 2 + 4 / ranks bytes a parameter, but for the embedding's 4 and those of
    the output matrix, which is there in both. Compiled or not."""
    table = LLAMA_7B["vocabulary"] * LLAMA_7B["width"]
    for compiled in (False, True):
        account = planned("LLaMA-7B stage 2 x 1", compile=compiled)
        assert account.weights == pytest.approx((2 + 4 / RANKS) * NUMBERS + (2 + 4) * table, rel=2e-3)
