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
# # 7. A ladder and its law
#
# Train small models of several sizes with several budgets, fit a law through them, say what a larger model will
# reach, and only then train it.

# %%
import json

from matplotlib.figure import Figure
from setting import ROOT, TINY, WORDS, command, picture

import isoflop

SIZES = (16, 32, 48) if TINY else (16, 32, 48, 64)
BUDGETS = ("1e9", "3e9") if TINY else ("3e10", "1e11", "3e11")
sizes = ",".join(f"'model.width={width} model.heads={width // 16} model.depth=2'" for width in SIZES)

# %% [markdown]
# ## The ladder
#
# Every size is trained with every budget of FLOPs: an isoFLOP grid (Hoffmann et al. 2022). `--plan` says what it will
# take.

# %%
own = [word for word in WORDS if word.startswith(("run.", "site"))]
ladder = ["ladder=cpu", "ladder.name=ladder", f"ladder.sizes=[{sizes}]", f"ladder.flops=[{','.join(BUDGETS)}]"]
ladder += ["ladder.tokens_per_parameter_between=[0.001,1000]", *own]
print("\n".join(command("sweep", *ladder, "--plan").splitlines()[-1:]))
if not (ROOT / "ladder" / "sweep.csv").is_file():
    command("sweep", *ladder, "jobs=2")
print("\n".join((ROOT / "ladder" / "sweep.csv").read_text().splitlines()[:3]))

# %% [markdown]
# **Question.** For one budget of FLOPs a larger model sees fewer tokens. What is lost at either end?
#
# ## The law
#
# Loss = E + A / N^alpha + B / D^beta in its simplest form; which form predicts larger runs best is found out on runs
# that were held out of the fit.

# %%
found = isoflop.fit(ROOT / "ladder", replicates=40 if TINY else 400)
print("form:", found.chosen, "; runs:", len(found.table.runs))
for doubt in found.doubts:
    print("doubt:", doubt.text)

# %% [markdown]
# **Question.** Read the doubts. Which of them could be answered by more runs, and which only by larger ones?
#
# ## A prediction, before
#
# The next model is deeper than all in the ladder, with three times the largest budget, and the same rules for its
# rate and its batch.

# %%
larger = [word for word in ladder if not word.startswith(("ladder.name", "ladder.sizes", "ladder.flops"))]
larger += [f"ladder.sizes=['model.width={SIZES[-1]} model.heads={SIZES[-1] // 16} model.depth=3']"]
larger += ["ladder.name=larger", f"ladder.flops=[{'6e9' if TINY else '9e11'}]"]
(plan,) = json.loads(command("sweep", *larger, "--plan", "--json"))["runs"]
parameters, tokens = plan["planned"]["model"]["parameters"], plan["planned"]["data"]["tokens"]
foretold = isoflop.fit(ROOT / "ladder", predict=f"{parameters}@{tokens}", replicates=40 if TINY else 400).predictions[0]
prediction, beyond = foretold.loss, foretold.extrapolation
print(f"{parameters:,.0f} parameters, {tokens:,.0f} tokens: {prediction.value:.3f} nats a token")
print(f"95% interval: {prediction.low:.3f} to {prediction.high:.3f}; {beyond:.1f} times beyond the runs")

# %% [markdown]
# ## And the run, after

# %%
command("sweep", *larger)
run = isoflop.Run(ROOT / "larger" / plan["run"])
loss = run.metrics("evaluation")["loss"][-1]
inside = prediction.low <= loss <= prediction.high
print(f"it reached {loss:.3f}, {100 * (loss / prediction.value - 1):+.1f} % from the prediction", end=": ")
print("inside the interval" if inside else "outside the interval")

# %%
figure = Figure(figsize=(7, 3.6), layout="constrained")
axes = figure.subplots()
rows = sorted(found.table.runs, key=lambda one: one.parameters)
for budget, colour in zip(BUDGETS, ("#9ec3e6", "#4a8fcb", "#1f5fa8"), strict=False):
    some = [one for one in rows if abs(one.flop / float(budget) - 1) < 0.5]
    axes.plot(
        [one.parameters for one in some],
        [one.loss for one in some],
        "o-",
        color=colour,
        label=f"{budget} FLOP",
        markersize=4,
    )
bars = [[prediction.value - prediction.low], [prediction.high - prediction.value]]
axes.errorbar([parameters], [prediction.value], yerr=bars, fmt="s", color="#c8742b", capsize=4, label="predicted")
axes.plot([parameters], [loss], "x", color="black", markersize=8, label="trained afterwards")
axes.set_xscale("log")
axes.set_xlabel("parameters")
axes.set_ylabel("held-out loss, nats a token")
axes.legend(frameon=False, fontsize=8)
picture(figure, "07-law")

# %% [markdown]
# **Question.** Was the interval honest? How many predictions like this one would you want before you believe a law on
# a model a thousand times as large?
