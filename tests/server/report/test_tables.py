"""Tables by site fit a page's width, whatever the number of sites and the length of their names."""

from __future__ import annotations

from server.report.tables import MAX_COLUMNS, by_site
from shared_models.pages.elements import Row


def table(sites: int, features: int) -> tuple[int, int, str]:
    names = [f"university_hospital_{number}" for number in range(sites)] + ["all internal", "all trained on"]
    rows = [Row(f"feature {number}", ["1"] * (len(names) + 1)) for number in range(features)]
    made = by_site("Characteristic", names, rows, "Patients.", last="SMD")
    assert {len(row.cells) for row in made.rows} == {len(made.headings) - 1}
    return len(made.headings), len(made.rows), made.caption


def test_up_to_ten_columns_of_sites_are_columns_and_their_long_names_may_break() -> None:
    assert table(8, 25)[:2] == (12, 25)
    made = by_site("", ["university_hospital_of_the_north"] * 4, [Row("age", ["1"] * 4)], "")
    assert all("\u200b" in name for name in made.headings[1:])


def test_more_sites_are_rows_where_few_features_are_shown() -> None:
    assert table(38, 6)[:2] == (7, 41)
    columns, rows, caption = table(200, 6)
    assert (columns, rows) == (7, 43)  # with those of several sites together
    assert "The first 40 of 202 sites" in caption


def test_many_sites_with_many_features_are_told_together() -> None:
    columns, rows, caption = table(40, 25)
    assert columns <= MAX_COLUMNS
    assert rows == 25
    assert "Each of the 42 columns is in results.json" in caption
