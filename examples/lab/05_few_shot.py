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
# # 5. Zero, one and two examples, beside fine-tuning
#
# GPT-3's claim was that a large enough model learns a task from examples in its context, with no change of a weight.
# GPT-1 and BERT changed the weights. Here one model does both on one task: which package of Python's library does this
# snippet come from?

# %%
import json
import random
import re

from matplotlib.figure import Figure
from setting import LAB, ROOT, TINY, command, lab, picture, tuned

import isoflop

gpt = lab()["GPT"]
folder = ROOT / f"lab-{LAB[0].partition('=')[2]}min"
files = {split: folder / ".tasks" / f"packages-{split}.jsonl" for split in ("train", "held_out")}
records = [json.loads(line) for line in files["held_out"].read_text().splitlines()]
classes = sorted({record["label"] for record in records})
print(f"{len(classes)} packages: {', '.join(classes)}\n")
print(records[0]["text"], "\n->", records[0]["label"])


def asked(task: dict, *words: str) -> list[dict]:
    """What `isoflop eval` finds of a task in the format of lm-evaluation-harness, one for each number of shots."""
    file = ROOT / f"{task['task']}.yaml"
    common = {"dataset_path": "json", "output_type": "multiple_choice", "metric_list": [{"metric": "acc"}]}
    file.write_text(json.dumps(common | task, indent=1))  # JSON is YAML
    words = (f"tasks={file}", f"limit={8 if TINY else 100}", *words)
    return json.loads(command("eval", str(gpt.path), *words, "--json"))["tasks"]


# %% [markdown]
# ## Asked in its own words
#
# A model that continues text has been asked nothing yet; but it says of any text how likely it is. Of a line and the
# same line with its words shuffled, which one is likelier? No example, no training, and a bag of words cannot tell.

# %%
pairs, chance = [], random.Random(0)
for record in records:
    line = max(record["text"].split("\n"), key=len)
    words = re.findall(r"\w+", line)
    moved = iter(chance.sample(words, len(words)))
    mixed = re.sub(r"\w+", lambda _, moved=moved: next(moved), line)
    if mixed != line:
        pairs.append({"choices": [line, mixed]})
print("\n".join(pairs[0]["choices"]))
(ROOT / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs))
task = {
    "task": "pairs",
    "dataset_kwargs": {"data_files": {"test": str((ROOT / "pairs.jsonl").absolute())}},
    "test_split": "test",
    "doc_to_text": "",
    "target_delimiter": "",
    "doc_to_choice": "choices",
    "doc_to_target": 0,
}
(one,) = asked(task, "shots=0")
print(f"the line as it was is the likelier one in {100 * one['values']['acc']['value']:.0f} % of {one['items']} pairs")

# %% [markdown]
# **Question.** Which shuffled lines would a human not find either? Look at some pairs of `pairs.jsonl`.
#
# ## In the context
#
# Two lines of the snippet, a question, the names of the packages. The model is asked which name is likelier, behind
# zero, one or two solved examples.

# %%
task = {
    "task": "which_package",
    "dataset_kwargs": {"data_files": {split: str(file.absolute()) for split, file in files.items()}},
    "training_split": "train",
    "test_split": "held_out",
    "doc_to_text": "{{text.splitlines()[:2]|join('\\n')}}\n# a file of",
    "doc_to_choice": classes,
    "doc_to_target": "label",
}
bars = {}
for one in asked(task, "shots=0,1,2"):
    right = one["values"]["acc"]
    bars[f"{one['shots']} shown"] = right["value"]
    said = f"{100 * right['value']:.1f} % right, ± {100 * right['standard_error']:.1f}"
    print(f"{one['shots']} shown: {said}; {one['shortened']} of {one['items']} contexts were cut")

# %% [markdown]
# **Question.** The model reads 128 tokens. How many solved examples does that hold, and what does a row with cut
# contexts still measure? Where all rows show the same number, the model says one name whatever it reads: which one?
# What would you have to train to find out at which size the curve begins to rise?
#
# ## Changing the weights
#
# The lab has tuned this very model on the same records. Beside it: the same tuning from random weights, and two methods
# that need no model.

# %%
tuned_gpt = isoflop.Run(folder / "gpt-s0-on-packages")
recipe = [f"optim.{name}={getattr(tuned_gpt.config.optim, name)}" for name in ("lr", "batch_size")]
same = [*recipe, "task.records=4000", "task.from_scratch=true"]
scratch = tuned("packages-from-scratch", gpt, "packages", *same, steps=tuned_gpt.config.budget.steps)
scores = tuned_gpt.scores()
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
axes.axvline(100 / len(classes), color="#777777", linestyle=":")
axes.set_xlim(0, 100)
axes.set_xlabel("% right, held-out records; dotted: by chance")
picture(figure, "05-few-shot")

# %% [markdown]
# **Question.** Fine-tuning read every training record, two shots two. Write down what each cost: in records, in seconds
# of computing once, and in tokens read for every question afterwards. And why is it so hard to beat a bag of words
# on this task?
