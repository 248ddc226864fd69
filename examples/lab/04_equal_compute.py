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
# # 4. Objectives at equal compute: the lab
#
# "Trained for the same number of steps" is no comparison: a step of BART costs more than one of GPT. `isoflop lab`
# gives a GPT, a BERT and a BART the same number of floating-point operations, on the same text with the same
# tokenizer, tunes all three on the same tasks, and prints one table.

# %%
import json
import statistics

from matplotlib.figure import Figure
from setting import LAB, ROOT, lab, picture

runs = lab()

# %% [markdown]
# ## The table
#
# `isoflop lab` prints it; here it is read from the file beside the runs. The same command again trains nothing that is
# there already.

# %%
folder = ROOT / f"lab-{LAB[0].partition('=')[2]}min"
print((folder / "lab.md").read_text())

# %% [markdown]
# **Question.** Which rows are equal by construction, which follow from the architecture, and which had to be
# measured?
#
# ## Losses are not of one kind
#
# GPT predicts every token from those before it, BERT 40% of them from both sides, BART all of them while it reads
# most of them. So the curves below cannot be ranked by their height. What can be compared: how far each falls below a
# model that only counts *its own* targets (the dotted lines).

# %%
figure = Figure(figsize=(8, 3.4), layout="constrained")
axes = figure.subplots()
for (name, run), colour in zip(runs.items(), ("#1f5fa8", "#c8742b", "#3b7d4f"), strict=True):
    steps, held_out = run.metrics(), run.metrics("evaluation")
    axes.plot([flop / 1e12 for flop in steps["flop"]], steps["loss"], color=colour, linewidth=0.6, alpha=0.35)
    width = max(1, len(steps["loss"]) // 30)
    smooth = [statistics.fmean(steps["loss"][max(0, k - width) : k + 1]) for k in range(len(steps["loss"]))]
    axes.plot([flop / 1e12 for flop in steps["flop"]], smooth, color=colour, label=name)
    axes.axhline(held_out["unigram_loss"][-1], color=colour, linestyle=":", linewidth=0.8)
axes.set_xlabel("TFLOP")
axes.set_ylabel("nats a target")
axes.set_title("Training loss; dotted: counting the same held-out targets", loc="left", fontsize=10)
axes.legend(frameon=False)
picture(figure, "04-curves")

# %% [markdown]
# **Question.** Why does BERT's curve jump most from step to step?
#
# ## One text and the same tasks for all
#
# Some rows do compare: the *same endings*, where all score the same tokens (BERT sees more than it should), and two
# tasks that all are tuned on alike. `arguments`: find the arguments of a function, a span of the code. `packages`:
# which package of the library does a snippet come from? There, counting its words goes a long way.

# %%
table = json.loads((folder / "lab.json").read_text())
models = table["models"]
tasks = list(models[0]["scores"])
figure = Figure(figsize=(10, 3.2), layout="constrained")
left, *others = figure.subplots(1, 1 + len(tasks))
names = [model["name"] for model in models]
left.bar(names, [model["ending"] for model in models], color="#1f5fa8")
left.set_title("The same endings, nats a token\n(less is better)", loc="left", fontsize=9)
lines = [(left, method, nats) for method, nats in table["endings_by_counting"].items()]
for axes, task in zip(others, tasks, strict=True):
    scores = [model["scores"][task]["values"] for model in models]
    axes.bar(names, [100 * statistics.fmean(values) for values in scores], color="#1f5fa8")
    for place, values in enumerate(scores):
        axes.plot([place] * len(values), [100 * value for value in values], "o", color="black", markersize=3)
    axes.set_ylim(0, 100)
    axes.set_title(
        f"{task}, tuned, {'F1' if task == 'arguments' else '% right'}\n(dots: seeds)", loc="left", fontsize=9
    )
    lines += [(axes, method, 100 * score) for method, score in table["baselines"].get(task, {}).items()]
for axes, method, value in lines:
    axes.axhline(value, color="#777777", linestyle=":", linewidth=0.8)
    axes.text(2.4, value, method, fontsize=8, ha="right", va="bottom", color="#555555")
picture(figure, "04-endings-and-task")

# %% [markdown]
# **Question.** How many seeds would you want before you say that one of the three is best? Try `isoflop lab
# grid.seeds=[0,1,2]`: what had been trained is not trained again.
#
# ## The price
#
# Planned before, measured after; the energy of a processor without a counter is an estimate, and says so.

# %%
for model in models:
    price = model["price"]["time.wall"]
    kwh = model["price"]["energy.kwh"]["measured"]
    planned = price["planned"]["value"]
    said = "not stated" if planned is None else f"{planned:.0f} s"
    print(f"{model['name']}: planned {said}, measured {price['measured']['value']:.0f} s", end="; ")
    print(f"{1000 * kwh['value']:.3g} Wh, {kwh['provenance']}")

# %% [markdown]
# **Question.** All three had the same FLOPs. Why do their seconds differ?
