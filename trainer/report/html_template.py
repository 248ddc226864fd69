"""The template of HTML reports: one file that works offline and loads nothing from elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template

COLUMNS = 130  # of text in its fixed font, on a page of full width

_DOCUMENT = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:$runs">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1d2127; --faint: #5b6470; --paper: #fff; --line: #e3e6ea; --shade: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --faint: #a3abb6; --paper: #15181c; --line: #363c44; --shade: #1f2329; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.under { color: var(--faint); margin: .2rem 0 1.4rem; overflow-wrap: anywhere; }
section { overflow-x: auto; } .tiles { display: flex; flex-wrap: wrap; gap: .8rem; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .9rem; min-width: min(9rem, 38%);
  box-sizing: border-box; }
.tile b { display: block; font-size: 1.25rem; } .tile span { color: var(--faint); font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 1rem; }
.plots img { width: 100%; border-radius: 6px; } [hidden] { display: none !important; }
figure { margin: 0; min-width: 0; } figcaption { margin: 0 0 .3rem; overflow-wrap: anywhere; }
.chart { position: relative; height: 290px; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.plots figure:only-child .chart { height: 380px; } .canvas { position: absolute; inset: 0; }
.chart:focus-visible, pre:focus-visible { outline: 2px solid var(--ink); outline-offset: -2px; }
.tip { position: absolute; pointer-events: none; background: var(--paper); border: 1px solid var(--line);
  border-radius: 5px; padding: .2rem .5rem; font-size: .82rem; max-width: 60%; z-index: 2; }
.buttons { display: none; gap: .4rem; margin: .4rem 0; } @media (pointer: coarse) { .buttons { display: flex; } }
.buttons button { min-width: 2.4rem; min-height: 2.2rem; font: inherit; color: var(--ink); background: var(--shade);
  border: 1px solid var(--line); border-radius: 5px; }
.readout { min-height: 1.4em; margin: .2rem 0; font-size: .82rem; color: var(--faint); overflow-wrap: anywhere; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0; padding: 0; font-size: .85rem; }
.legend li::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  background: var(--own); }
.legend [data-look^="-"]::before, .legend [data-look=":"]::before { width: 1.5em; height: 3px; vertical-align: .25em; }
.legend [data-look="--"]::before, .legend [data-look="-."]::before { background: repeating-linear-gradient(90deg,
  var(--own) 0 6px, #0000 6px 9px); }
.legend [data-look=":"]::before { background: repeating-linear-gradient(90deg, var(--own) 0 3px, #0000 3px 6px); }
.legend [data-look="area"]::before { opacity: .4; } .legend [data-look="circle"]::before { border-radius: 50%; }
.legend [data-look="triangle"]::before { clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.legend [data-look="inverted_triangle"]::before { clip-path: polygon(0 0, 100% 0, 50% 100%); }
.legend [data-look="diamond"]::before { clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%); }
.legend [data-look="plus"]::before { clip-path: polygon(35% 0, 65% 0, 65% 35%, 100% 35%, 100% 65%, 65% 65%, 65% 100%,
  35% 100%, 35% 65%, 0 65%, 0 35%, 35% 35%); }
.legend [data-look="hex"]::before { clip-path: polygon(25% 7%, 75% 7%, 100% 50%, 75% 93%, 25% 93%, 0 50%); }
@media print {
  .chart, .readout, .legend, .buttons, figcaption { display: none; } .plots img[hidden] { display: block !important; }
}
@media screen and (prefers-color-scheme: dark) { .plots img { filter: invert(.91) hue-rotate(180deg); } }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .7rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } th { font-weight: 600; }
td:first-child { white-space: nowrap; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } th.n { text-align: right; }
td.n small { display: block; color: var(--faint); } td.s { color: var(--faint); font-size: .85rem; }
.none { color: var(--faint); } .again { display: none; }
.wrap td { overflow-wrap: anywhere; } .pair td:first-child { white-space: normal; }
.wrap td:first-child { white-space: normal; overflow-wrap: normal; min-width: 9rem; }
@media (max-width: 640px) {
  td.s { min-width: 20rem; }
  .wrap th { display: none; } .wrap td { display: block; padding: 0 0 .1rem; border: 0; }
  .wrap td:first-child { font-weight: 600; } .wrap tr { display: block; padding: .4rem 0; }
  .stack th { display: none; } .stack tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  .stack td, .stack td.n { display: flex; justify-content: space-between; gap: 1rem; padding: 0; border: 0;
    text-align: right; white-space: normal; overflow-wrap: break-word; }
  .stack td::before { content: attr(data-of); color: var(--faint); text-align: left; }
  .stack td:first-child { display: block; font-weight: 600; text-align: left; } .stack td:empty { display: none; }
  .stack td.s { display: block; min-width: 0; text-align: left; } .stack td.s::before { content: attr(data-of) ": "; }
  .stack .again { display: inline; } .stack td > span:only-child { flex-shrink: 0; max-width: 70%; }
}
pre { background: var(--shade); padding: .8rem; overflow-x: auto; font-size: .82rem; }
pre.broken { white-space: pre-wrap; overflow-wrap: anywhere; }
</style></head><body>
<main><h1>$title</h1><p class="under">$under</p>
$body
</main>
$scripts</body></html>
""")


def html_document(
    title: str, under: str, sections: Mapping[str, str], scripts: str = "", hashes: Sequence[str] = ()
) -> str:
    """A whole HTML document of sections, heading -> HTML; under '' no heading is written.

    scripts: HTML for its end; of what stands in it only that runs which has one of these hashes."""
    body = "\n".join(
        f"<section>{f'<h2>{escape(name)}</h2>' if name else ''}{html}</section>" for name, html in sections.items()
    )
    runs = f"; script-src {' '.join(repr(one) for one in hashes)}" if hashes else ""
    return _DOCUMENT.substitute(title=escape(title), under=escape(under), body=body, runs=runs, scripts=scripts)


def tiles(figures: Mapping[str, str]) -> str:
    """The few figures that a reader looks for first: label -> value."""
    each = (
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for label, value in figures.items()
    )
    return f'<div class="tiles">{"".join(each)}</div>'


def preformatted(text: str) -> str:
    """Text in a fixed font; keys move what is wider than the page."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def in_words(text: str) -> str:
    """What the command printed; lines that are wider than the page go on in the next one, further in."""
    wrapper = textwrap.TextWrapper(COLUMNS, replace_whitespace=False, break_long_words=False, break_on_hyphens=False)
    lines = []
    for line in text.splitlines():
        wrapper.subsequent_indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += wrapper.wrap(line) or [""]
    return preformatted("\n".join(lines))


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Cells of text under a line of titles; on a phone each row of more than two is a block.

    numbers: columns that stand to the right."""
    right = set(numbers)
    css = ["n" if column in right else "" for column in range(len(head))]

    def cell(column: int, text: str) -> str:
        inside = f"<span>{escape(text).replace('  ', '&nbsp;&nbsp;')}</span>" if text else ""
        of = f' data-of="{escape(head[column])}"' if column else ""
        return f'<td class="{css[column]}"{of}>{inside}</td>' if css[column] else f"<td{of}>{inside}</td>"

    titles = "".join(
        f'<th scope="col"{f" class={one}" if one else ""}>{escape(title)}</th>'
        for title, one in zip(head, css, strict=True)
    )
    lines = "".join(f"<tr>{''.join(cell(k, text) for k, text in enumerate(row))}</tr>" for row in rows)
    return f'<table class="{"stack" if len(head) > 2 else "pair"}"><tr>{titles}</tr>{lines}</table>'


def html_list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
