"""A live page of a root's runs, on this host alone: `isoflop board`.

    board_run.py    one run as the board knows it
    head.py         what the index says of a run, from the small files of its folder
    lines.py        whole lines of a file that grows, from where reading stopped
    curve.py        one run's metrics.jsonl as columns
    view.py         the few points of a curve that a screen can show
    board.py        all runs of a root, and what changed since a page last asked
    page.py         the page, whole without its script
    server.py       what is served, to whom

Nothing is written, and nothing is read from anywhere but the root and this package and bokeh's.
"""
