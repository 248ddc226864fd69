"""What the key-value cache saves: CPU seconds to write tokens with it and without it, same weights, same prompt.

The two take turns; medians over the rounds. CPU time of the process, not wall time, because other work on the machine
would tell more on the shorter of the two. Ratio: without / with.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: it has modules of our packages' names

from trainer.compose import compose  # noqa: E402
from trainer.generation import GREEDY, Reader, write  # noqa: E402
from trainer.models import build, initialize  # noqa: E402

MODELS = {
    "llama-mini": ["model=llama-mini"],
    "llama-mini, a window of 64": ["model=llama-mini", "model.window=64"],
    "gpt-mini": ["model=gpt-mini"],
    "t5-small": ["model=t5-small", "objective=span_corruption"],
}


def seconds(model: torch.nn.Module, vocabulary: int, tokens: int, cached: bool) -> float:
    """Time to write so many tokens behind a prompt of 16, greedily, one row."""
    prompt = torch.randint(300, vocabulary, (1, 16), generator=torch.Generator().manual_seed(0))
    source = prompt if model.config.family == "encoder_decoder" else None
    reader = Reader(model, vocabulary, tokens + 16, source=source, cached=cached)  # type: ignore[arg-type]
    began = time.process_time()
    decoding = type(GREEDY)(temperature=0, tokens=tokens)
    written = list(write(reader, prompt[:, :1] if source is not None else prompt, None, decoding, None))
    assert len(written) == tokens
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=list(MODELS), default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| model | with the cache, CPU s | without, CPU s | ratio |\n|---|---|---|---|")
    for name in [arguments.only] if arguments.only else MODELS:
        length = f"model.max_length={arguments.tokens + 16}"
        config = compose([*MODELS[name], "data.sequence_length=256", length])
        model = build(config).eval()
        initialize(model, 0)
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(arguments.rounds):
            for cached in (True, False):
                times[cached].append(seconds(model, config.tokenizer.vocabulary, arguments.tokens, cached))
        fast, slow = (statistics.median(times[cached]) for cached in (True, False))
        print(f"| {name} | {fast:.2f} | {slow:.2f} | **{slow / fast:.1f}** |", flush=True)


if __name__ == "__main__":
    main()
