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
# # 5. Zero, one and few examples, beside fine-tuning
#
# GPT-3's claim was that a large enough model learns a task from examples in its context, with no change of a weight.
# GPT-1 and BERT changed the weights. Here one model does both on one task: were two neighbouring words of this
# snippet swapped?

# %%
import json

from matplotlib.figure import Figure
from setting import LAB, ROOT, TINY, command, lab, picture, tuned

import isoflop

runs = lab()
folder = ROOT / f"lab-{LAB[0].partition('=')[2]}min"
gpt = runs["GPT"]
records = [json.loads(line) for line in (folder / ".tasks" / "swapped-held_out.jsonl").read_text().splitlines()]
for record in records[:2]:
    print(record["label"], "\n", record["text"], "\n", sep="")

# %% [markdown]
# ## In the context
#
# A task file in the format of lm-evaluation-harness: the snippet, a question, two choices. The model is asked which
# choice is likelier, behind zero, one or four solved examples.

# %%
task = {
    "task": "swapped_words",
    "dataset_path": "json",
    "dataset_kwargs": {
        "data_files": {
            split: str((folder / ".tasks" / f"swapped-{name}.jsonl").absolute())
            for split, name in {"train": "train", "test": "held_out"}.items()
        }
    },
    "training_split": "train",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}\n# the words above are",
    "doc_to_choice": ["intact", "swapped"],
    "doc_to_target": "{{['intact', 'swapped'].index(label)}}",
    "metric_list": [{"metric": "acc"}],
}
file = ROOT / "swapped.yaml"
file.write_text(json.dumps(task, indent=1))  # JSON is YAML
limit = 8 if TINY else 200
said = command("eval", str(gpt.path), f"tasks={file}", "shots=0,1,4", f"limit={limit}", "--json")
shown = {one["shots"]: one for one in json.loads(said)["tasks"]}
for shots, one in shown.items():
    right = one["values"]["acc"]
    said = f"{100 * right['value']:.1f} % right, ± {100 * right['standard_error']:.1f}"
    print(f"{shots} shown: {said}; {one['shortened']} of {one['items']} contexts were cut")

# %% [markdown]
# **Question.** The model reads 128 tokens. How many of these snippets does that hold, and what does a row with cut
# contexts still measure?
#
# ## What a small model can do with examples
#
# `copy` and `recall` need no knowledge of the world: only the examples tell what is wanted.

# %%
said = command("eval", str(gpt.path), "tasks=copy,recall", "shots=0,1,4", f"limit={limit}", "--json")
curve = {}
for one in json.loads(said)["tasks"]:
    curve.setdefault(one["task"], {})[one["shots"]] = one["values"]["acc"]["value"]
for name, points in curve.items():
    print(name, {shots: f"{100 * value:.0f} %" for shots, value in points.items()}, "(four choices: 25 % by chance)")

# %% [markdown]
# **Question.** GPT-3 had 175 billion parameters, this model has one million. What would you have to train to find out
# at which size the curve begins to rise?
#
# ## Changing the weights
#
# The lab has tuned this very model on 1,200 records. Beside it: the same tuning from random weights, and two methods
# that need no model.

# %%
tuned_gpt = isoflop.Run(folder / "gpt-s0-on-swapped")
scratch = tuned(
    "swapped-from-scratch", gpt, "swapped", "task.from_scratch=true", "optim.lr=1e-3", "optim.batch_size=16", steps=60
)
scores = tuned_gpt.scores()
bars = {f"{shots} shown": one["values"]["acc"]["value"] for shots, one in shown.items()}
bars["fine-tuned"] = scores["metrics"]["accuracy"]
bars["tuned from random weights"] = scratch.scores()["metrics"]["accuracy"]
bars |= {name: one["accuracy"] for name, one in scores["baselines"].items()}
for name, value in bars.items():
    print(f"{name:<26}{100 * value:5.1f} %")

# %%
figure = Figure(figsize=(7, 3), layout="constrained")
axes = figure.subplots()
names = list(bars)[::-1]
colours = ["#1f5fa8" if "shown" in name else "#c8742b" if "tuned" in name else "#999999" for name in names]
axes.barh(names, [100 * bars[name] for name in names], color=colours)
axes.axvline(50, color="#777777", linestyle=":")
axes.set_xlim(30, 100)
axes.set_xlabel("% right, held-out records; dotted: by chance")
picture(figure, "05-few-shot")

# %% [markdown]
# **Question.** Fine-tuning used 1,200 records, four shots used four. Write down what each cost: in records, in
# seconds of computing once, and in tokens read for every question afterwards.
