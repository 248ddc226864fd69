"""report.html: one file that works offline, opens from disk and asks nothing of any other place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from string import Template

from trainer.books.figures import Figure
from trainer.books.formatting import format_amount, format_figure
from trainer.report.contents import Contents, notes
from trainer.report.curves import plots
from trainer.report.plots import svg

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2127; background: #fff; max-width: 1100px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.under { color: #5b6470; margin: .2rem 0 1.4rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; }
.tile { border: 1px solid #e3e6ea; border-radius: 6px; padding: .6rem .9rem; min-width: 9rem; }
.tile b { display: block; font-size: 1.25rem; } .tile span { color: #5b6470; font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem; }
.plots img { width: 100%; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .7rem .25rem 0;
  border-bottom: 1px solid #e3e6ea; vertical-align: top; } th { font-weight: 600; }
td:first-child { white-space: nowrap; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } th.n { text-align: right; }
td.s { color: #5b6470; font-size: .85rem; } .none { color: #8a8f98; }
pre { background: #f6f7f9; padding: .8rem; overflow-x: auto; font-size: .82rem; }
</style></head><body>
<h1>$title</h1><p class="under">$under</p>
<div class="tiles">$tiles</div>
<h2>Price tag</h2>$tag
<h2>Curves</h2><div class="plots">$plots</div>
<h2>Logbook</h2>$logbook
<h2>Configuration</h2><pre>$config</pre>
<h2>Environment</h2><pre>$environment</pre>
</body></html>
""")


def page(contents: Contents) -> str:
    """The page of one run."""
    config = contents.config
    return _PAGE.substitute(
        title=escape(f"{config.experiment} / {contents.run.name}"),
        under=escape(
            f"{contents.status}, science hash {config.science_hash()}, overrides: {contents.overrides or 'none'}"
        ),
        tiles="".join(_tiles(contents)),
        tag=_tag(contents),
        plots="".join(f'<img alt="{escape(plot.title)}" src="{svg(plot)}">' for plot in plots(contents)),
        logbook=_logbook(contents),
        config=escape(config.to_yaml()),
        environment=escape(json.dumps(contents.environment, indent=2, sort_keys=True, ensure_ascii=False)),
    )


def _tiles(contents: Contents) -> list[str]:
    best = contents.best
    score, label = (best.get("bits_per_byte"), "held-out bits per byte") if best else (None, "held-out loss")
    if best and score is None:
        score, label = best["loss"], "held-out loss, nats per target"
    tiles = [(label, f"{score:.4f}" if score is not None else "not evaluated")]
    for key, label in (
        ("data.tokens", "tokens"),
        ("time.wall", "training time"),
        ("energy.device_kwh", "energy of the devices"),
        ("carbon.kgco2e", "carbon"),
        ("cost.amount", "money"),
    ):
        row = contents.tag[key]
        text = format_amount(row.measured.value, row.unit) if row.measured and row.measured.value is not None else ""
        tiles.append((label, text or "not stated"))
    return [f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>' for label, value in tiles]


def _tag(contents: Contents) -> str:
    lines = ['<table><tr><th></th><th class="n">planned</th><th class="n">measured</th><th>source</th></tr>']
    for row in contents.tag.rows:
        cells = []
        for figure in (row.planned, row.measured):
            css = "n" if figure is not None and figure.value is not None else "n none"
            cells.append(f'<td class="{css}">{escape(format_figure(figure, row.unit))}</td>')
        both = [figure for figure in (row.measured, row.planned) if figure]
        known = [figure for figure in both if figure.value is not None] or both
        sources = dict.fromkeys(map(_source, known))
        name = escape(row.name).replace("  ", "&nbsp;&nbsp;")
        lines.append(
            f'<tr><td>{name}</td>{"".join(cells)}<td class="s">{escape("; ".join(filter(None, sources)))}</td></tr>'
        )
    return "".join(lines) + "</table>" + "".join(f"<p>{escape(note)}</p>" for note in notes(contents))


def _source(figure: Figure) -> str:
    if figure.value is None:
        return f"not stated: {figure.source}" if figure.source else ""
    return f"{figure.provenance}: {figure.source}" if figure.source else figure.provenance


def _logbook(contents: Contents) -> str:
    if not contents.events:
        return "<p>Nothing was written.</p>"
    lines = ["<table><tr><th>time (UTC)</th><th class='n'>step</th><th>event</th><th></th></tr>"]
    for event in contents.events:
        stamp = event.get("time")
        at = f"{datetime.fromtimestamp(stamp, UTC):%Y-%m-%d %H:%M:%S}" if isinstance(stamp, int | float) else ""
        cells = (
            f"<td>{at}</td>",
            f'<td class="n">{escape(str(event.get("step", "")))}</td>',
        )
        texts = (f"<td>{escape(str(event.get(part, '')))}</td>" for part in ("name", "text"))
        lines.append(f"<tr>{''.join(cells)}{''.join(texts)}</tr>")
    return "".join(lines) + "</table>"
