"""RESULTS.md: what the recorded results say, table beside table."""

import shutil
from dataclasses import replace
from pathlib import Path

from experiments.markdown import results_page, write_results_page
from experiments.results import read_record, with_other_tables

HOME = Path(__file__).resolve().parents[1] / "experiments"


def test_less_data_is_marked_and_compared_with_its_like() -> None:
    whole = read_record(HOME)
    results = [
        replace(
            r, is_small=r.row.startswith("pre-training"),
            scores=(0.4, 0.5) if r.row != "single task" else (0.1, 0.1, 0.1),
        )
        for r in whole.results
    ]  # fmt: skip
    rows = {"SST": [8544, 1101], "Quora": [16000, 4000], "STS": [6040, 863]}
    made = {title: replace(table, seeds=3) for title, table in whole.tables.items()}
    page = results_page(replace(whole, tables=made, results=results, small_rows=rows))
    assert "\nWhere † stands: SST 8,544 and 1,101, Quora 16,000 and 4,000, STS" in page
    score = "0.450 ± 0.071"
    assert f"| pre-training + parallel | {score} † (0.505) | {score} † (0.873) |" in page
    assert f"| parallel | {score} (0.505) | {score} (0.877) | {score} (0.863) | 2 |" in page
    assert "| single task | 0.100 ± 0.000 (0.533) |" in page and "(0.874) | 3 |" in page
    assert "| shuffle less parallel | +0.000 (within the spread) |" in page.replace(
        "Does shuffling beat taking turns? ", ""
    )
    assert "parallel less single task | +0.350 (-0.028) |" in page
    assert "Does it help parallel training?" not in page
    assert "Does it help parallel training?" in results_page(whole)
    elsewhere = replace(whole, model=f"sentence-transformers/{whole.model}")
    assert "was itself trained on duplicate questions of Quora" in results_page(elsewhere)


def test_the_page_is_what_the_recorded_results_say(tmp_path: Path) -> None:
    for path in HOME.glob("*.json"):
        shutil.copy(path, tmp_path)
    write_results_page(tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == (HOME / "RESULTS.md").read_text()


def test_a_table_leaves_the_others_alone(tmp_path: Path, capsys) -> None:
    """Written by --table 3, with Tables 1 and 2 there from before."""
    shutil.copy(HOME / "results.json", tmp_path)
    whole = read_record(tmp_path)
    title = "Table 3: routines"
    made = replace(whole.tables[title], seeds=3, machine="another one")
    own = [replace(r, scores=(0.5,) * 3) for r in whole.results if r.table == title]
    one = replace(whole, tables={title: made}, results=own)
    both = with_other_tables(one, tmp_path)
    assert both.tables == {**whole.tables, title: made}
    others = [r for r in whole.results if r.table != title]
    assert sorted(both.results, key=repr) == sorted(own + others, key=repr)
    page = results_page(both)
    others_of_one = sum(t.seeds == 1 for name, t in whole.tables.items() if name != title)
    assert page.count("One seed: ") == others_of_one > 0 and "On another one. 3 seeds.\n" in page
    of_tables, of_differences = page.split("## What it says")
    assert of_tables.count("| seeds | updates |") == 3 - others_of_one
    assert of_differences.count("| seeds | updates |") == 1
    assert "| 0.500 ± 0.000 (0.533) | " in page
    assert capsys.readouterr().out == ""
    assert with_other_tables(replace(one, budget="other"), tmp_path).tables == one.tables
    assert "had other budget; its other tables are left out" in capsys.readouterr().out
