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
# # 2. Decoder, encoder, encoder-decoder on one text
#
# GPT, BERT and BART are one and the same stack of blocks with different answers to two questions: who may see whom,
# and what has to be predicted. This notebook uses the three models of `isoflop lab`, and trains them first where they
# are not there yet (ten minutes; notebook 4 is about them).

# %%
import torch
from matplotlib.figure import Figure
from setting import lab, picture

runs = lab()
TEXT = "def close(self):\n    self.file.close()"
ids = runs["GPT"].tokenizer.encode(TEXT)
pieces = [runs["GPT"].tokenizer.piece(one) for one in ids]
print(len(ids), "tokens:", " | ".join(pieces))

# %% [markdown]
# ## Who sees whom
#
# No drawing from a paper: change one token of the text, and look at which positions change inside of the trained
# model. Row i, column j is filled where position i changes when token j does.

# %%
tokens = torch.tensor([ids])


def states(name: str, read: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """What the last block of a model holds at each position [S, width]; BART reads one text and writes another."""
    model = models[name]
    with torch.no_grad():
        if name == "BART":
            return model.hidden_states(written, source_tokens=read)[0]
        return model.hidden_states(read)[0]


def seen(name: str, part: str = "read") -> torch.Tensor:
    """bool [S, S]: whether position i changes when token j of what is read, or written, does."""
    before, columns = states(name, tokens, tokens), []
    for place in range(len(ids)):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 7) % len(models) + 300
        after = states(name, *((other, tokens) if part == "read" else (tokens, other)))
        columns.append((after - before).abs().amax(dim=1) > 1e-6)
    return torch.stack(columns, dim=1)


models = {name: run.model() for name, run in runs.items()}
maps = {
    "GPT": seen("GPT"),
    "BERT": seen("BERT"),
    "BART writes, of what it reads": seen("BART"),
    "BART writes, of what it wrote": seen("BART", "written"),
}
for name, one in maps.items():
    print(f"{name}: {one.float().mean():.0%} of all pairs")

# %%
figure = Figure(figsize=(10, 3.1), layout="constrained")
for axes, (name, one) in zip(figure.subplots(1, 4), maps.items(), strict=True):
    axes.imshow(one, cmap="Blues", vmin=0, vmax=1.3)
    axes.set_title(name, fontsize=9)
    axes.set_xlabel("token that is changed", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
figure.axes[0].set_ylabel("position that changes", fontsize=8)
picture(figure, "02-who-sees-whom")

# %% [markdown]
# **Question.** Which of the four maps could be used to write a text from left to right, and which of them would cheat
# if it were trained to predict the next token?
#
# ## What each one does with the text
#
# A decoder goes on. An encoder fills one token at each `<mask>`, from both sides. An encoder-decoder reads the whole
# text with its gaps and writes it anew. (These models are a thousandth of the size of GPT-2: do not expect sense.)

# %%
print("GPT   ", repr(runs["GPT"].generate("def close(self):\n", tokens=24, temperature=0)))
print("BERT  ", repr(runs["BERT"].generate("def close(<mask>):\n    self.file.<mask>()", temperature=0)))
print("BART  ", repr(runs["BART"].generate("def close(<mask>):\n    self.file.close()", tokens=40, temperature=0)))

# %% [markdown]
# **Question.** You want vectors for a search engine, a chat bot, and a translator. Which family for which, and why?
#
# ## Where the parameters are

# %%
for name, run in runs.items():
    model, blocks = models[name], 0
    for part, one in model.named_parameters():
        blocks += one.numel() if one.dim() > 1 and "embed" not in part and "tokens" not in part else 0
    total = sum(one.numel() for one in model.parameters())
    print(f"{name}: {total:>9,} parameters, {run.config.model.depth} blocks of width {run.config.model.width}")

# %% [markdown]
# **Question.** BART has two blocks in its encoder and two in its decoder, GPT and BERT have four. Where do BART's
# additional parameters come from?
