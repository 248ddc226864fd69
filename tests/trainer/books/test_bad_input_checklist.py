"""Bad input that the books and the meter must answer with a clear error or an honest null, and the test that shows it.

The list is a table so that a reader sees what is covered; the test below fails where a test of the table has gone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOOKS, PRICE, ENERGY = "books/test_bad_input.py", "books/test_price.py", "meter/test_energy.py"
PLAN, LEDGER, REPORT = "books/test_plan.py", "report/test_ledger.py", "report/test_report.py"
COUNTERS = "meter/test_counters.py"

# what is wrong: the file of its test, and the test's or the case's name there
SHOWN = {
    "PUE below 1": (BOOKS, '"PUE below 1"'),
    "PUE below 1, in price": (PRICE, '"PUE below 1"'),
    "PUE nan": (BOOKS, '"PUE not a number"'),
    "PUE inf": (BOOKS, '"PUE infinite"'),
    "PUE text": (PRICE, '"PUE text"'),
    "intensity in kg instead of g": (BOOKS, '"intensity in kg"'),
    "intensity above 2000": (PRICE, '"intensity of nothing on earth"'),
    "intensity without source": (BOOKS, '"intensity without source"'),
    "intensity without year": (BOOKS, '"intensity without year"'),
    "unknown country": (BOOKS, "test_unknown_country_names_the_nearest"),
    "no driver, 0 devices": (ENERGY, "test_unreadable_gpu_is_null_not_zero"),
    "pre-Volta": (ENERGY, "test_before_volta_power_is_integrated"),
    "counter None": (ENERGY, '"vanished"'),
    "counter falling": (ENERGY, '"fell"'),
    "counter frozen": (ENERGY, '"stood still"'),
    "counter jumping beyond 1.5 x TDP": (ENERGY, '"jumped"'),
    "two ranks with one UUID": (ENERGY, "test_two_ranks_on_one_gpu_count_once"),
    "a rank missing": (ENERGY, "test_missing_rank_makes_it_a_lower_bound"),
    "RAPL absent or unreadable": (COUNTERS, "test_without_a_counter_processors_are_estimated_and_why_is_said"),
    "RAPL without memory": (COUNTERS, "test_rapl_without_memory_is_a_lower_bound_and_names_what_is_missing"),
    "RAPL that stands still": (COUNTERS, "test_a_still_counter_is_no_zero"),
    "RAPL wrapped": (ENERGY, "test_rapl_wraps_and_psys_is_not_added"),
    "RAPL wrapped unseen": (ENERGY, "test_rapl_left_alone_for_too_long_is_a_gap"),
    "wall clock going backwards": (ENERGY, "test_wall_clock_going_backwards_changes_nothing"),
    "SIGKILL and a torn last line": (ENERGY, "test_killed_process_counts_up_to_its_last_reading"),
    "duplicated segments": (ENERGY, "test_folding_twice_changes_nothing"),
    "reordered devices": (ENERGY, "test_devices_are_found_by_identity_not_by_index"),
    "resume on another GPU type or world size": (ENERGY, "test_resume_on_another_gpu_and_another_number_of_ranks"),
    "copied run folder": (LEDGER, "test_copied_run_folder_counts_once"),
    "two processes in one folder": (ENERGY, "test_two_processes_in_one_folder_count_a_gpu_once"),
    "zero tokens": (PRICE, '"zero tokens"'),
    "zero seconds": (PRICE, '"zero seconds"'),
    "a run without a step": (REPORT, "test_report_of_a_run_that_never_made_a_step"),
    "sparse peak": (BOOKS, '"sparse peak"'),
    "sparse peak, in price": (PRICE, '"sparse peak"'),
    "FP8 peak for 16-bit work": (BOOKS, "test_fp8_peak_is_its_own_dtype"),
    "a dtype that the card lacks": (PLAN, "test_bf16_on_a_card_without_bf16_is_not_stated"),
    "negative price": (PRICE, '"negative price"'),
    "price without currency": (BOOKS, '"price without currency"'),
    "price without date": (BOOKS, '"price without date"'),
    "grams vs kilograms": (LEDGER, "test_emissions_in_the_card_are_grams"),
    "facility energy together with a PUE": (PRICE, '"facility meter and PUE"'),
    "unknown is null": (PLAN, "test_unknown_stays_null"),
}


@pytest.mark.parametrize(("file", "name"), SHOWN.values(), ids=SHOWN)
def test_it_is_shown(file: str, name: str) -> None:
    text = (ROOT / file).read_text()
    assert (f"{name}: (" in text) if name.startswith('"') else (f"def {name}(" in text)
