import datetime
import warnings

import openpyxl
import pytest

from client.errors import SiteError
from client.tables import read_table


def save_workbook(path, sheets):
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    book.close()


def test_columns_are_read_as_they_stand(hospital):
    table = read_table(hospital.site(), "clinical", ["Age", "ER"])
    assert table.cells["Age"][:2] == ("40", "41")
    assert table.rows[0] == 2
    assert len(table.patients) == 40


def test_other_columns_are_not_kept(hospital):
    assert set(read_table(hospital.site(), "clinical", ["Age"]).cells) == {"PatientID", "Age"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_semicolons_and_a_byte_order_mark(hospital, encoding):
    hospital.write([["PatientID", "Größe"], ["a", "1,5"], [], ["b", ""]], delimiter=";", encoding=encoding)
    hospital.settings["tables"]["clinical"].update(separator=";", decimal=",")
    table = read_table(hospital.site(), "clinical", ["Größe"])
    assert table.cells["Größe"] == ("1,5", "")
    assert table.rows == (2, 4)


def test_old_windows_exports_need_their_encoding(hospital):
    hospital.write([["PatientID", "Größe"], ["a", "1"]], encoding="cp1252")
    with pytest.raises(SiteError, match="utf-8-sig"):
        read_table(hospital.site(), "clinical", ["Größe"])
    hospital.settings["tables"]["clinical"]["encoding"] = "cp1252"
    assert read_table(hospital.site(), "clinical", ["Größe"]).cells["Größe"] == ("1",)


def test_a_workbook_with_groups_and_typed_cells(hospital):
    date = datetime.datetime(2020, 1, 2)
    sheet = [
        ["Patient", None, "Mammography", None, "US"],
        ["ID", "Name\n of  it", "Shape", "Size", "Shape"],
        [7, "x", 1.0, 2.5, True],
        [None, None, None, None, None],
        [8, None, 2, date, "NA"],
    ]
    save_workbook(hospital.data / "a.xlsx", {"Legend": [["x"]], "Data": sheet})
    hospital.settings["tables"]["clinical"] = {"file": "a.xlsx", "patient_id": "ID", "sheet": "Data", "header_rows": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_table(hospital.site(), "clinical", ["Name of it", "Mammography / Shape", "US / Shape", "Size"])
    assert table.patients == ("7", "8")
    assert table.rows == (3, 5)
    assert table.cells["Name of it"] == ("x", "")
    assert table.cells["Mammography / Shape"] == ("1", "2")
    assert table.cells["US / Shape"] == ("True", "NA")
    assert table.cells["Size"] == ("2.5", date.isoformat())


def test_workbook_numbers_do_not_depend_on_the_decimal_sign(hospital):
    save_workbook(hospital.data / "a.xlsx", {"Data": [["ID", "Size"], [1, 2.5]]})
    hospital.settings["tables"]["clinical"] = {"file": "a.xlsx", "patient_id": "ID", "decimal": ","}
    assert read_table(hospital.site(), "clinical", ["Size"]).cells["Size"] == ("2,5",)


@pytest.mark.parametrize(
    ("text", "reference", "said"),
    [
        ("PatientID;Age\na;1\n", "Age", ["separated by another character", "row 1", '`separator` to ";"']),
        ("PatientID\tAge\na\t1\n", "Age", ['`separator` to "\\t"']),
        ("PatientID,Age\na,1\n", "Ages", ["a column is missing", "nearest: 'Age'", "'Ages'"]),
        ("PatientID,Age,Age\na,1,2\n", "Age", ["ambiguous", "2 columns"]),
        ("PatientID,Age\na,1,2\n", "Age", ["does not fit its header", "row 2", "3 cells", "2 cells"]),
        ("PatientID,Age\na\n", "Age", ["does not fit its header", "1 cells"]),
        ('PatientID,Age\na,"1\n', "Age", ["cannot be read"]),
        ("PatientID,Age\n,1\na,1\n,2\n", "Age", ["no patient identifier", "rows 2, 4"]),
        ("", "Age", ["a column is missing", "'PatientID'"]),
    ],
)
def test_a_broken_file_is_one_message(hospital, text, reference, said):
    (hospital.data / "clinical.csv").write_text(text)
    with pytest.raises(SiteError) as caught:
        read_table(hospital.site(), "clinical", [reference])
    for part in [*said, "'clinical'", "clinical.csv"]:
        assert part in str(caught.value)


def test_a_single_column_is_a_table(hospital):
    hospital.write([["Patient ID"], ["a"]])
    hospital.settings["tables"]["clinical"]["patient_id"] = "Patient ID"
    assert read_table(hospital.site(), "clinical", []).patients == ("a",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "gone.csv"}, ["file is missing", "gone.csv"]),
        ({"file": "clinical.xls"}, ["'.xls'", ".xlsx"]),
        ({"file": "fake.xlsx"}, ["cannot be read", "fake.xlsx"]),
        ({"file": "a.xlsx", "sheet": "Dat"}, ["no such sheet", "'Data'", "'Dat'"]),
        ({"file": "a.xlsx", "sheet": 3}, ["no such sheet", "sheet 3"]),
        ({"file": "folder.csv"}, ["cannot be read", "a folder"]),
        ({"encoding": "klingon"}, ["klingon"]),
    ],
)
def test_a_file_that_is_not_what_the_yaml_says(hospital, change, said):
    save_workbook(hospital.data / "a.xlsx", {"Data": [["PatientID"], ["a"]]})
    (hospital.data / "fake.xlsx").write_text("no workbook")
    (hospital.data / "folder.csv").mkdir()
    hospital.settings["tables"]["clinical"].update(change)
    with pytest.raises(SiteError) as caught:
        read_table(hospital.site(), "clinical", [])
    for part in said:
        assert part in str(caught.value)
    assert "clinical" not in caught.value.public
