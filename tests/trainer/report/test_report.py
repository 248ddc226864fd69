"""The report from a run's folder alone: complete files, true numbers, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from html.parser import HTMLParser

import pytest
import yaml
from run_folders import energy_lines, make_run, step_line, write_lines

from trainer.books.equivalents import EQUIVALENTS_LB, KG_PER_POUND
from trainer.cli.main import main
from trainer.config import Config, load
from trainer.report import append_ledger, read_run, report_attempt, write_report
from trainer.utils.command_line import command_line
from trainer.utils.errors import UserError


class Addresses(HTMLParser):
    """Every address that a page would fetch, and every tag that could fetch one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_page_is_self_contained_and_escapes_what_it_shows(tmp_path):
    run = make_run(tmp_path)
    write_report(run)
    text = (run / "report.html").read_text()
    reader = Addresses()
    reader.feed(text)
    assert reader.found and all(address.startswith("data:image/svg+xml;base64,") for address in reader.found)
    assert not reader.tags & {"link", "iframe", "object"}
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    own = re.findall(r'<script type="module">(.*?)</script>', text, re.S)
    assert policy and len(own) == 1 and "<script>" not in text
    digest = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none';") and f"'sha256-{digest}'" in policy[1]
    assert "&lt;script&gt;alert(1)" in text and "a &lt;b&gt;new&lt;/b&gt; run" in text


def test_a_report_that_cannot_be_written_is_one_line_and_changes_no_exit_code(tmp_path, capsys):
    run = make_run(tmp_path)
    (run / "pricetag.json" / "in the way").mkdir(parents=True)
    report_attempt(run, 0)
    again = command_line("report", str(run))
    told = f"isoflop: the report could not be written (Is a directory); later: {again}\n"
    assert capsys.readouterr().err == told
    (run / "pricetag.json" / "in the way").rmdir()
    (run / "pricetag.json").rmdir()
    report_attempt(run, 0)
    assert (run / "pricetag.json").is_file()


def test_price_tag_has_both_columns(tmp_path):
    run = make_run(tmp_path)
    write_report(run)
    tag = json.loads((run / "pricetag.json").read_text())
    assert tag["planned"]["data"]["tokens"] == tag["measured"]["data"]["tokens"] == 20 * 4 * 64
    assert tag["planned"]["flop"]["total"] == tag["measured"]["flop"]["total"]
    assert tag["measured"]["time"]["wall"] == pytest.approx(13.0)
    for column in ("planned", "measured"):  # neither stated nor measured: null, not zero
        assert tag[column]["carbon"]["kgco2e"] is None
        assert tag[column]["cost"]["amount"] is None


def test_card_front_matter_names_emissions_only_where_known(tmp_path):
    run = make_run(tmp_path)
    write_report(run)
    head = yaml.safe_load((run / "card.md").read_text().split("---")[1])
    assert "isoflop" in head["tags"] and "co2_eq_emissions" not in head


def test_all_equivalents_are_on_the_page_and_the_card(tmp_path):
    """Half a car's lifetime of energy, and everything else that Strubell's table 1 has."""
    grid = {"gco2e_per_kwh": 500.0, "intensity_source": "a grid report", "intensity_year": 2023}
    run = make_run(tmp_path, {"site": grid | {"name": "hall", "pue": 1.0}})
    kilograms = 0.5 * EQUIVALENTS_LB["one car's lifetime, fuel included"] * KG_PER_POUND
    write_lines(run / "energy-host.jsonl", energy_lines("a", kilograms / 0.5 * 3.6e6))
    write_report(run)
    page, card = ((run / name).read_text() for name in ("report.html", "card.md"))
    assert "| one car's lifetime, fuel included | 0.5 x |" in card
    assert "Strubell et al. 2019, table 1" in page and ">0.5 x</" in page
    for name in EQUIVALENTS_LB:
        assert name in card and escape(name) in page
    tag = json.loads((run / "pricetag.json").read_text())
    assert tag["equivalents"]["times"]["one car's lifetime, fuel included"] == pytest.approx(0.5)


def test_a_tile_says_at_least_where_the_tag_does(tmp_path):
    run = make_run(tmp_path)  # at a site without a PUE
    lines = energy_lines("a", 7.2e6)
    write_lines(run / "energy-host.jsonl", [*lines, lines[1] | {"n": 2, "monotonic": 20.0, "gaps": {"0": "it stood"}}])
    assert read_run(run).tag["energy.device_kwh"].measured.high is None
    write_report(run)
    assert "<b>at least " in (run / "report.html").read_text()


def test_report_of_a_run_that_never_made_a_step(tmp_path):
    run = make_run(tmp_path, steps=0)
    write_report(run)
    assert json.loads((run / "pricetag.json").read_text())["measured"]["time"]["wall"] is None
    assert read_run(run).status == "interrupted"


@pytest.mark.parametrize("words", [["--site", "fr-2023"], ["--site=fr-2023"], ["site=fr-2023"]])
def test_a_finished_run_is_priced_at_another_site(tmp_path, capsys, words):
    run = make_run(tmp_path)
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    before = (run / "energy-h.jsonl").read_bytes()
    assert main(["report", str(run), *words, "site.pue=1.5", "--json"]) == 0
    tag = json.loads(capsys.readouterr().out)
    assert tag["measured"]["carbon"]["kgco2e"] == pytest.approx(1.0 * 1.5 * 0.056)  # kWh x PUE x kg/kWh
    assert (run / "energy-h.jsonl").read_bytes() == before


def test_not_a_run_folder(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        write_report(tmp_path)


def test_replayed_steps_and_torn_lines(tmp_path):
    run = make_run(tmp_path, steps=12)
    config: Config = load(run / "config.yaml")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "step": 13, "loss"\n')  # killed here
    write_lines(
        run / "metrics.jsonl",
        [step_line(config, step, attempt=1, seconds=1.0) for step in range(9, 21)],
    )
    run_data = read_run(run)
    assert [record["step"] for record in run_data.steps.kept] == list(range(1, 21))
    assert [record["step"] for record in run_data.steps.replayed] == [9, 10, 11, 12]
    assert run_data.tag["time.wasted"].measured.value == pytest.approx(4 * 0.5)
    assert run_data.tag["time.wall"].measured.value == pytest.approx((3 + 12 * 0.5) + (3 + 20 * 1.0))
    assert [item["step"] for item in run_data.steps.evaluations] == []


def test_equal_runs_give_equal_pages(tmp_path):
    run = make_run(tmp_path)
    write_report(run)
    first = (run / "report.html").read_bytes()
    write_report(run)
    assert (run / "report.html").read_bytes() == first
    assert not list(run.glob(".*"))


def test_ledger_renews_and_survives_a_torn_line(tmp_path):
    run, killed = make_run(tmp_path), make_run(tmp_path, steps=3, name="r2")
    append_ledger(run)
    with open(tmp_path / "ledger.jsonl", "a") as file:
        file.write('{"run": "torn')
    append_ledger(killed)
    append_ledger(run)
    lines = [line for line in (tmp_path / "ledger.jsonl").read_text().splitlines() if re.match(r"^\{.*\}$", line)]
    entries = [json.loads(line) for line in lines]
    assert [entry["run"].split("/")[1] for entry in entries] == ["r1", "r2", "r1"]
    assert [entry["status"] for entry in entries] == [
        "finished",
        "interrupted",
        "finished",
    ]
    assert entries[0] == entries[2]


def test_a_yardstick_of_other_text_is_not_shown(tmp_path):
    """0.1.0 took it from all held-out text, also where it measured the loss on a part of it."""

    def card_of(name, samples, **evaluated):
        run = make_run(tmp_path, {"evaluation": {"samples": samples}}, name=name)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        records = [one | evaluated if one["kind"] == "evaluation" else one for one in records]
        (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
        write_report(run)
        return (run / "card.md").read_text()

    beside = "(the same tokens without context: 3.5000)"
    assert beside in card_of("all", None) and beside not in card_of("part", 32)
    assert beside in card_of("part-now", 32, unigram_loss=7.0)
    encoder = card_of("encoder", None, bits_per_byte=None, unigram_bits_per_byte=None, unigram_loss=7.0)
    assert "nats per target" in encoder and "(the same tokens without context: 7.0000)" in encoder
