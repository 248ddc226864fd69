# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Tokenization
#
# A language model reads numbers. Here a tokenizer is trained on the text that comes with Python (the source of its
# own standard library), looked at, and handed to `transformers.AutoTokenizer`. Nothing is downloaded.

# %%
import json
from pathlib import Path

from matplotlib.figure import Figure
from setting import ROOT, TEXT, TINY, WORDS, command, picture, trained
from transformers import AutoTokenizer

from trainer.data import Tokenizer

# %% [markdown]
# ## From text to pieces and back
#
# A GPT of one single step has learned nothing, but it has a tokenizer: byte pair encoding with 1,024 pieces, and
# bytes for whatever these do not cover.

# %%
run = trained("one-step", "model=gpt-mini", "model.depth=1", "budget.steps=1", "evaluation.samples=8")
tokenizer = run.tokenizer
for text in ("def read(self, path):", "naïve café, 北京", "    return None\n"):
    ids = tokenizer.encode(text)
    print(f"{text!r}: {len(text.encode())} bytes, {len(ids)} tokens")
    print("  ", " | ".join(tokenizer.piece(one) for one in ids))
    assert tokenizer.decode(ids) == text

# %% [markdown]
# **Question.** Why does `北京` take six tokens, and what would a tokenizer without byte pieces do with it?
#
# ## How many pieces?
#
# More pieces make shorter texts, and a larger embedding. The same ten thousand characters under vocabularies of
# several sizes:

# %%
vocabularies = (512, 1024) if TINY else (512, 1024, 2048, 4096, 8192)
sample = Path(json.__file__).read_text()[:10_000]  # a file of the standard library
(ROOT / "tokenizers").mkdir(parents=True, exist_ok=True)
per_token = []
for size in vocabularies:
    file = ROOT / "tokenizers" / f"{size}.model"
    if not file.is_file():
        words = [word for word in WORDS if word not in TEXT]
        command("tokenizer", f"out={file}", f"tokenizer.vocabulary={size}", *words)
    per_token.append(len(sample.encode()) / len(Tokenizer(file).encode(sample)))
    print(f"{size:>5} pieces: {per_token[-1]:.2f} bytes a token; embedding of width 128: {size * 128:,} numbers")

# %%
figure = Figure(figsize=(6, 3.2), layout="constrained")
axes = figure.subplots()
axes.plot(vocabularies, per_token, "o-", color="#1f5fa8")
axes.set_xscale("log", base=2)
axes.set_xticks(vocabularies, [f"{size:,}" for size in vocabularies])
axes.set_xlabel("pieces")
axes.set_ylabel("bytes a token")
axes.set_title("A larger vocabulary makes shorter texts, by less and less", loc="left", fontsize=10)
axes.grid(color="#dddddd", linewidth=0.5)
picture(figure, "01-vocabulary")

# %% [markdown]
# **Question.** From 4,096 to 8,192 pieces a text becomes a few percent shorter. What does that cost a model of width
# 128 with a million parameters, and what one of width 4,096?
#
# ## The same in transformers
#
# `isoflop export` writes a run as a Hugging Face checkpoint, its tokenizer included. `AutoTokenizer` reads it from
# the folder and gives the very same ids.

# %%
folder = ROOT / "exported"
if not folder.is_dir():
    command("export", str(run.path), f"to={folder}")
theirs = AutoTokenizer.from_pretrained(folder)
text = "for name, value in items.items():\n    print(name)"
print(type(theirs).__name__, len(theirs))
print(theirs(text, add_special_tokens=False)["input_ids"])
assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
print("special tokens:", theirs.bos_token, theirs.eos_token, theirs.pad_token, theirs.mask_token)

# %% [markdown]
# **Question.** BERT's tokenizer cuts `unhappiness` into `un ##happiness`, GPT-2's into pieces that may begin with a
# space. What is lost where a tokenizer throws the spaces away, and for which tasks does that not matter?
