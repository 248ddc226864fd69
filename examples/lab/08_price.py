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
# # 8. The price tag, the ledger, and three sites
#
# Every run has a price tag: planned before, measured after. A number that nobody stated or measured is "not stated",
# and never an average of the world.

# %%
from matplotlib.figure import Figure
from setting import ROOT, WORDS, command, lab, picture

import isoflop

gpt = lab()["GPT"]

# %% [markdown]
# ## What a run of the lab cost
#
# Each line says where its numbers come from. A processor without an energy counter is an estimate with an interval.

# %%
tag = gpt.price()
for key in ("flop.total", "time.wall", "energy.kwh", "carbon.kgco2e", "cost.amount"):
    row = tag[key]
    for column in ("planned", "measured"):
        one = getattr(row, column)
        if one is not None:
            value = "not stated" if one.value is None else f"{one.value:.3g} {row.unit}"
            print(f"{row.name.strip():<18}{column:<10}{value:<18}{one.provenance}: {one.source[:60]}")

# %% [markdown]
# **Question.** Nobody stated the overhead of the hall (`site.pue`), so the energy is "at least". What is it for a
# laptop on a table, and what for a hall of 2010?
#
# ## One run at three sites
#
# The same kilowatt-hours in France, Germany and Poland, by the average of their grids in 2023. Nothing is trained
# again: a run is priced anew from its folder.

# %%
SITES = {"France": "fr-2023", "Germany": "de-2023", "Poland": "pl-2023"}
plain = [word for word in WORDS if not word.startswith("site")]
grams = {}
for country, site in SITES.items():
    config = isoflop.compose([*plain, "model=gpt-mini", f"site={site}", "site.pue=1.1"])
    kwh = gpt.price()["energy.kwh"].measured.value * config.site.pue
    grams[country] = 1000 * kwh * config.site.gco2e_per_kwh / 1000
    print(f"{country:<9}{config.site.gco2e_per_kwh:5.0f} g/kWh  {1000 * kwh:.3g} Wh  {grams[country]:.3g} g CO2e")

# %% [markdown]
# **Question.** The factor between the cheapest and the dearest site is about twelve. Which of your decisions about a
# model would save as much?
#
# ## The same for GPT-3
#
# A plan needs no computer of that size. 1,024 H100 are assumed here, a PUE of 1.1, and two dollars an hour, which is
# an example and no offer.

# %%
words = ["model=gpt3-175b", "objective=causal", "budget.tokens=300b", "optim.batch_size=2048", "site.pue=1.1"]
words += ["data.sequence_length=2048", "tokenizer.vocabulary=50257", "engine.precision=bf16", "engine.zero_stage=3"]
words += [
    "machine=h100-sxm",
    "machine.network_bandwidth=5e10",
    "launch=slurm",
    "launch.nodes=128",
    "launch.processes=8",
]
words += ["engine.activation_checkpointing=true"]
words += ["site.price_per_device_hour=2", "site.currency=USD", "site.price_date=2026-11"]
tons = {}
for country, site in SITES.items():
    price = isoflop.plan(isoflop.compose([*words, f"site={site}"]))
    tons[country] = price["carbon.kgco2e"].planned.value / 1000
    energy, money = price["energy.kwh"].planned.value, price["cost.amount"].planned.value
    print(f"{country:<9}{energy / 1e6:.2f} GWh  {tons[country]:8,.0f} t CO2e  {money:,.0f} USD")

# %%
figure = Figure(figsize=(8, 3), layout="constrained")
for axes, amounts, title in zip(
    figure.subplots(1, 2), (grams, tons), ("this GPT, g CO2e", "GPT-3 175B, t CO2e (planned)"), strict=True
):
    axes.bar(list(amounts), list(amounts.values()), color=["#3b7d4f", "#c8742b", "#555555"])
    axes.set_title(title, loc="left", fontsize=10)
picture(figure, "08-three-sites")

# %% [markdown]
# **Question.** The money is the same at all three sites, the carbon is not. Who pays for the difference?
#
# ## The ledger
#
# What a paper should say is not the price of its best run but of all of them: also the failed ones, the tuning and
# the data.

# %%
print(command("ledger", str(ROOT)))

# %% [markdown]
# **Question.** Which share of the whole is the model that you would publish? Look at the lines of the project at the
# end.
