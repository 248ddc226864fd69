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
# # 6. Instructions and preferences
#
# From a model that continues texts to one that answers: supervised fine-tuning on instructions, a reward model from
# pairs of answers, and two ways to use preferences, by DPO and by reinforcement. All of it on the lab's GPT with a
# million parameters: the mechanics are those of InstructGPT, the answers are not.

# %%
import json

from matplotlib.figure import Figure
from setting import LAB, ROOT, TINY, lab, picture, tuned

gpt = lab()["GPT"]

# %% [markdown]
# ## Supervised fine-tuning
#
# An instruction data set is a file of prompts and answers. Here every record of the lab's task is asked in one of
# three ways (FLAN's idea: a task becomes many by how it is put). The loss is on the answers only.

# %%
WAYS = (
    "{text}\nWhich package is this from? ",
    "Here are some lines of Python.\n{text}\nTheir package: ",
    "{text}\n\nName the package of these lines: ",
)
folder = ROOT / f"lab-{LAB[0].partition('=')[2]}min" / ".tasks"
files = {}
for split in ("train", "held_out"):
    records = [json.loads(line) for line in (folder / f"packages-{split}.jsonl").read_text().splitlines()]
    asked = []
    for number, record in enumerate(records[: 24 if TINY else 1200]):
        text = "\n".join(record["text"].split("\n")[:2])  # short enough for a row of 128 tokens
        asked.append({"prompt": WAYS[number % 3].format(text=text), "completion": record["label"]})
    files[split] = (ROOT / f"instructions-{split}.jsonl").absolute()
    files[split].write_text("".join(json.dumps(one) + "\n" for one in asked))
print(json.dumps(asked[0], indent=1))

# %%
words = [f"task.{split}={file}" for split, file in files.items()]
sft = tuned("instructions", gpt, "instructions", *words, "optim.lr=1e-3", "optim.batch_size=16", steps=60)
for name, value in sft.scores()["metrics"].items():
    if isinstance(value, float):
        print(f"{name}: {value:.3f}")
packages = sorted({record["label"] for record in records})
print(f"by chance: {1 / len(packages):.3f}")

# %%
for name, run in {"before": gpt, "after": sft}.items():
    print(f"{name}: {run.generate(asked[0]['prompt'], tokens=12, temperature=0)[-60:]!r}")

# %% [markdown]
# **Question.** The tuned model answers in the right *form*. How would you find out whether it also knows the answer?
#
# ## A reward model
#
# Pairs of continuations, one of them with its words swapped: the better one is to get the higher score. The
# difference of two scores is the log-odds of being chosen (Bradley and Terry 1952).

# %%
reward = tuned("reward", gpt, "reward", "optim.lr=1e-3", "optim.batch_size=16", steps=60)
scores = reward.scores()["metrics"]
print({name: round(value, 3) for name, value in scores.items() if isinstance(value, float)})

# %% [markdown]
# **Question.** A reward model that is right in 70% of all pairs: what will a policy do that is optimized against it
# for long?
#
# ## DPO
#
# The same pairs without a reward model: raise the likelihood of the chosen answer over the rejected one, measured
# from the frozen model (Rafailov et al. 2023).

# %%
dpo = tuned("dpo", gpt, "continuations", "optim.lr=3e-4", "optim.batch_size=16", steps=60)
scores = dpo.scores()["metrics"]
print({name: round(value, 3) for name, value in scores.items() if isinstance(value, float)})

# %% [markdown]
# **Question.** Nothing in DPO samples from the model. What can it therefore not find out about its own answers?
#
# ## Reinforcement
#
# REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024): four answers to a prompt, each rewarded by the
# reward model, less a price for every nat of distance from the frozen model.

# %%
short = ["task.max_new_tokens=8", "task.samples=2"] if TINY else ["task.max_new_tokens=16", "task.samples=4"]
words = [
    f"task.reward={reward.path}",
    "data.sequence_length=112",
    "optim.batch_size=8",
    "optim.lr=3e-4",
    "evaluation.samples=16",
    *short,
]
policy = tuned("policy", gpt, "policy", *words, steps=20)
steps = policy.metrics()
learned = [one or {} for one in steps["policy"]]
print(f"reward: {learned[0]['reward']:.2f} in the first step, {learned[-1]['reward']:.2f} in the last")
print(f"distance from the frozen model: {learned[-1]['kl']:.2f} nats an answer")

# %%
figure = Figure(figsize=(8, 3), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(steps["step"], [one["reward"] for one in learned], color="#1f5fa8")
left.set_title("mean reward of an answer", loc="left", fontsize=10)
right.plot(steps["step"], [one["kl"] for one in learned], color="#c8742b")
right.set_title("KL from the frozen model, nats an answer", loc="left", fontsize=10)
for axes in (left, right):
    axes.set_xlabel("step")
    axes.grid(color="#dddddd", linewidth=0.5)
picture(figure, "06-policy")

# %%
for name, run in {"GPT": gpt, "DPO": dpo, "policy": policy}.items():
    print(f"{name:<7}{run.generate('def close(self):', tokens=16, temperature=0)!r}")

# %% [markdown]
# **Question.** The reward rises and the distance with it. Which of the two would you put a limit on, and what does
# `task.kl` do to both?
