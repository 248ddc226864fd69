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
# # 3. The noises of BART, seen
#
# BART (Lewis et al. 2020) spoils a text in one of five ways and learns to write it as it was. Here the same text is
# shown under each of them, as a model would read it: no training, no picture of a paper.

# %%
from matplotlib.figure import Figure
from setting import WORDS, picture

import isoflop

NOISES = {
    "token masking": "token_masking",
    "token deletion": "token_deletion",
    "text infilling": "text_infilling",
    "sentence permutation": "sentence_permutation",
    "document rotation": "document_rotation",
}


def read(*words: str) -> dict:
    """The first sample of the first step under these words."""
    config = isoflop.compose([*WORDS, "data.sequence_length=96", "budget.steps=10", *words])
    return isoflop.show(config, 0, samples=1)["samples"][0]


def plain(text: str) -> str:
    """Masks as a block, other special tokens left out."""
    text = text.replace("[[<mask>]]", "\N{MEDIUM SHADE}" * 2)
    return text.replace("[[<s>]]", "").replace("[[</s>]]", "")


def noised(noise: str) -> dict:
    return read("model=bart-mini", "objective=bart", f"objective.noises=[{noise}]")


# %% [markdown]
# ## The text as it is
#
# What the decoder has to write is the same for all five.

# %%
samples = {name: noised(noise) for name, noise in NOISES.items()}
original = samples["token masking"]["decoder"]
assert all(sample["decoder"] == original for sample in samples.values())
print(plain(original))

# %% [markdown]
# **Question.** The sample begins in the middle of a file. Why does pre-training not begin every sample at a
# beginning?
#
# ## What the encoder reads: masks and gaps
#
# A mask is a grey block. Masking keeps the number of tokens; deletion does not even say where something is missing;
# infilling puts one mask for a span of any length, also of none.

# %%
for name in ("token masking", "token deletion", "text infilling"):
    print(f"--- {name}\n{plain(samples[name]['source'])}\n")

# %% [markdown]
# **Question.** Put the three in the order of how much a model must find out by itself: which token, where, how many.
#
# ## Order: permutation and rotation

# %%
for name in ("sentence permutation", "document rotation"):
    print(f"--- {name}\n{plain(samples[name]['source'])}\n")

# %% [markdown]
# **Question.** In the paper's table 1 rotation and permutation alone do badly. Which knowledge of words do they *not*
# ask for?
#
# ## How much is left
#
# The characters of the text that the encoder still reads, and its masks. BART's recipe for its large model is infilling
# and permutation together.

# %%
samples["infilling + permutation"] = noised("sentence_permutation,text_infilling")
read_of = {name: plain(sample["source"]) for name, sample in samples.items()}
masks = {name: text.count("\N{MEDIUM SHADE}") // 2 for name, text in read_of.items()}
left = {name: len(text.replace("\N{MEDIUM SHADE}", "")) / len(plain(original)) for name, text in read_of.items()}

figure = Figure(figsize=(7, 3), layout="constrained")
axes = figure.subplots()
names = list(left)[::-1]
axes.barh(names, [100 * left[name] for name in names], color="#3b7d4f")
for place, name in enumerate(names):
    axes.text(100 * left[name] + 1, place, f"{masks[name]} masks", va="center", fontsize=8)
axes.set_xlim(0, 120)
axes.set_xlabel("% of the text's characters that the encoder reads")
picture(figure, "03-what-is-left")

# %% [markdown]
# **Question.** BERT hides 15% of the tokens and learns from these alone; BART writes all of them. Which one learns
# more from a token that is read, and which one from a second of computing? Notebook 4 measures it.
#
# ## BERT and T5 beside it
#
# The same view of BERT's masks ([[read -> to predict]]) and of T5's spans.

# %%
print(read("model=bert-mini", "model.sentence_head=false", "model.pooler=none", "objective=masked_lm")["text"], "\n")
spans = read("model=t5-mini", "objective=span_corruption")
print("reads ", spans["source"], "\n\nwrites", spans["decoder"])

# %% [markdown]
# **Question.** One of BERT's chosen tokens in ten is kept as it is, one is replaced by a random one. Find such a
# token. What would go wrong at fine-tuning, where there are no masks, without these?
