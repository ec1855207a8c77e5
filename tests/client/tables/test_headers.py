import pytest

from client.tables.headers import by_name, header_columns, names_of, nearest_names

DUKE = [
    ["Patient", "Tumor", None, None, "Mammography", None, "US", "BIRADS"],
    ["ID", "Grade", None, "Side", "Shape", "Size (cm)", "Shape", None],
    [None, "Grade(T)\n(Tubule)", "Grade(N)", "L or R", None, None, None, None],
]


@pytest.fixture
def columns():
    return header_columns([[cell or "" for cell in row] for row in DUKE])


def test_merged_cells_reach_to_the_right_until_something_new_starts(columns):
    assert columns[2] == ("Tumor", "Grade", "Grade(N)")
    assert columns[3] == ("Tumor", "Side", "L or R")
    assert columns[5] == ("Mammography", "Size (cm)", "")
    assert columns[7] == ("BIRADS", "", "")


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("ID", 0),
        ("Patient", 0),
        ("Grade(T) (Tubule)", 1),
        ("Grade / Grade(N)", 2),
        ("Tumor / Grade(N)", 2),
        ("Tumor / Grade / Grade(N)", 2),
        ("Mammography / Shape", 4),
        ("US / Shape", 6),
        ("Size (cm)", 5),
    ],
)
def test_a_column_answers_to_any_of_its_cells_and_to_their_chain(columns, name, position):
    assert by_name(columns)[name] == [position]


def test_a_name_of_two_columns_finds_both(columns):
    assert by_name(columns)["Shape"] == [4, 6]
    assert by_name(columns)["Grade"] == [1, 2]


def test_one_header_row_is_not_carried_to_the_right():
    assert header_columns([["a", "", "b"]]) == (("a",), ("",), ("b",))
    assert names_of(("",)) == set()


def test_nearest_names_leave_out_ambiguous_ones(columns):
    assert "Size (cm)" in nearest_names("size cm", by_name(columns))
    assert "Shape" not in nearest_names("Shapes", by_name(columns))
    assert nearest_names("grade", by_name(columns))[0] == "Grade(N)"
    assert nearest_names("zzzzzz", by_name([("a",), ("b",), ("c",)]), count=2) == ["a", "b"]
