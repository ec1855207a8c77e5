import datetime
import decimal
import os
import re
import time
import warnings
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.errors import SiteError
from client.tables.read import read_table, table_files


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


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_rows_above_the_header_are_left_out(hospital, suffix):
    rows = [["Export of 12.03.2024"], [], ["ID", "Size"], ["1", "25"], ["2", "31"]]
    save_workbook(hospital.data / "a.xlsx", {"Data": rows})
    hospital.write(rows, "a.csv")
    hospital.settings["tables"]["clinical"] = {"file": f"a.{suffix}", "patient_id": "ID"}
    with pytest.raises(SiteError, match="skip_rows"):
        read_table(hospital.site(), "clinical", ["Size"])
    hospital.settings["tables"]["clinical"]["skip_rows"] = 2
    table = read_table(hospital.site(), "clinical", ["Size"])
    assert (table.cells["Size"], table.rows) == (("25", "31"), (4, 5))


def test_workbook_numbers_do_not_depend_on_the_decimal_sign(hospital):
    save_workbook(hospital.data / "a.xlsx", {"Data": [["ID", "Size"], [1, 2.5]]})
    hospital.settings["tables"]["clinical"] = {"file": "a.xlsx", "patient_id": "ID", "decimal": ","}
    assert read_table(hospital.site(), "clinical", ["Size"]).cells["Size"] == ("2,5",)


@pytest.mark.parametrize(
    ("text", "reference", "message"),
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
def test_a_broken_file_is_one_message(hospital, text, reference, message):
    (hospital.data / "clinical.csv").write_text(text)
    with pytest.raises(SiteError) as caught:
        read_table(hospital.site(), "clinical", [reference])
    for part in [*message, "'clinical'", "clinical.csv"]:
        assert part in str(caught.value)


def test_a_single_column_is_a_table(hospital):
    hospital.write([["Patient ID"], ["a"]])
    hospital.settings["tables"]["clinical"]["patient_id"] = "Patient ID"
    assert read_table(hospital.site(), "clinical", []).patients == ("a",)


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_a_file_that_is_not_what_the_yaml_says(hospital, change, message):
    save_workbook(hospital.data / "a.xlsx", {"Data": [["PatientID"], ["a"]]})
    (hospital.data / "fake.xlsx").write_text("no workbook")
    (hospital.data / "folder.csv").mkdir()
    hospital.settings["tables"]["clinical"].update(change)
    with pytest.raises(SiteError) as caught:
        read_table(hospital.site(), "clinical", [])
    for part in message:
        assert part in str(caught.value)
    assert "clinical" not in caught.value.public


# --- text files that hospitals have ---


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(hospital, encoding):
    text = "PatientID\tGröße\na\t1,5\n"
    mark = "\ufeff" if encoding.endswith("-le") else ""
    (hospital.data / "export.tsv").write_bytes((mark + text).encode(encoding))
    hospital.settings["tables"]["clinical"] = {
        "file": "export.tsv", "patient_id": "PatientID", "decimal": ",", "encoding": "cp1252"
    }  # fmt: skip
    assert read_table(hospital.site(), "clinical", ["Größe"]).cells["Größe"] == ("1,5",)


def test_line_breaks_and_separators_within_quotes(hospital):
    text = 'PatientID,"Note, in\r\nfull",Age\r\n"a","x ""y"",\r\nz",40\r\n\r\nb,,41\r\n'
    (hospital.data / "clinical.csv").write_bytes(text.encode())
    table = read_table(hospital.site(), "clinical", ["Note, in full", "Age"])
    assert table.cells["Age"] == ("40", "41")
    assert table.cells["Note, in full"] == ('x "y",\r\nz', "")
    assert table.rows == (4, 6)


BROKEN_BYTES = {
    "one byte": (b"PatientID,Age\na,1\nb,\xe4\n", ["line 3", "byte 0xE4", "'utf-8-sig'", "cp1252"]),
    "two encodings": ("PatientID,Ä\na,1\n".encode() + b"b,\xe4\n", ["line 3", "mixes two encodings"]),
    "cut short": (b"PatientID,Age\na,\xc3", ["line 2", "byte 0xC3"]),
    "nul": (b"PatientID,Age\na,1\x00\n", ["line 2", "a NUL character"]),
    "utf-16 without a mark": ("PatientID,Age\na,1\n".encode("utf-16-le"), ["line 1", "utf-16-le"]),
    "open quote": (b'PatientID,Age\na,"1\nb,2\n', ["up to line 3", "unexpected end", "quotation mark"]),
    "quote in a cell": (b'PatientID,Age\na,"1" 2\n', ["line 2", "quotation mark"]),
    "long cell": (b"PatientID,Age\na," + b"1" * 200_000, ["line 2", "field larger than field limit"]),
    "long line": (b"PatientID,Age\n" + b"1," * 2**23, ["line 2", "16,777,216 characters"]),
    "many columns": (b"PatientID" + b",x" * 100_001, ["more than 100,000 columns"]),
    "binary": (bytes(range(256)) * 10, ["byte 0x80"]),
    "pickle": (b"\x80\x04\x95", ["line 1", "byte 0x80"]),
    "blank": (b"\n\n", ["a column is missing"]),
}


@pytest.mark.parametrize(("content", "message"), BROKEN_BYTES.values(), ids=list(BROKEN_BYTES))
def test_broken_bytes_are_one_message(hospital, content, message):
    (hospital.data / "clinical.csv").write_bytes(content)
    began = time.process_time()
    with pytest.raises(SiteError) as caught:
        read_table(hospital.site(), "clinical", ["Age"])
    assert time.process_time() - began < 5
    for part in [*message, "clinical.csv", "to do:"]:
        assert part in str(caught.value)
    assert "clinical" not in caught.value.public


def test_utf_16_as_the_encoding_of_another_file(hospital):
    hospital.settings["tables"]["clinical"]["encoding"] = "utf-16"
    with pytest.raises(SiteError, match="set the table's `encoding` to utf-8-sig"):
        read_table(hospital.site(), "clinical", ["Age"])


def test_more_rows_or_bytes_than_are_read(hospital, monkeypatch):
    monkeypatch.setattr("client.tables.source.MAX_ROWS", 39)
    with pytest.raises(SiteError, match="more than 39 rows"):
        read_table(hospital.site(), "clinical", ["Age"])
    with (hospital.data / "clinical.csv").open("r+b") as file:
        file.truncate(5 * 2**30)  # sparse
    with pytest.raises(SiteError, match=r"5\.0 GiB"):
        read_table(hospital.site(), "clinical", ["Age"])


def test_a_pipe_is_not_waited_for(hospital):
    os.mkfifo(hospital.data / "pipe.csv")
    hospital.settings["tables"]["clinical"]["file"] = "pipe.csv"
    with pytest.raises(SiteError, match="no regular file"):
        read_table(hospital.site(), "clinical", ["Age"])


def test_patients_are_taken_from_longer_identifiers(hospital):
    hospital.write([["Sample", "Age"], ["TCGA-A1-01", 1], ["TCGA-A1-11", 2], ["x", 3], ["TCGA-B2-01", 4]])
    hospital.settings["tables"]["clinical"] |= {"patient_id": "Sample", "patient_extract": "^(TCGA-..)-01"}
    table = read_table(hospital.site(), "clinical", ["Age", "Sample"])
    assert (table.patients, table.rows) == (("TCGA-A1", "TCGA-B2"), (2, 5))
    assert table.cells["Age"] == ("1", "4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seperator": ";"}, "did you mean 'separator'?"),
        ({"encoding": "latin-99"}, "try utf-8-sig, cp1252"),
        ({"patient_extract": "TCGA"}, "has no group"),
        ({"patient_id": ""}, "`patient_id` is missing"),
        ({"genes": {"orientation": "genes_in_row"}}, "'genes_in_columns' or 'genes_in_rows'"),
        ({"genes": {"duplicate": "mean"}}, "did you mean 'duplicates'?"),
        ({"genes": {"orientation": "genes_in_rows"}, "header_rows": 2}, "one header row"),
        ({"decimal": ";"}, "'.' or ','"),
    ],
)
def test_settings_that_cannot_be_used_say_what_could(hospital, change, message):
    hospital.settings["tables"]["clinical"] |= change
    with pytest.raises(SiteError, match=re.escape(message)):
        hospital.site()


# --- workbooks ---


def workbook(hospital, rows, spoil=None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if spoil:
        spoil(book.active)
    book.save(hospital.data / "a.xlsx")
    book.close()
    hospital.settings["tables"]["clinical"] = {"file": "a.xlsx", "patient_id": "ID"}
    return hospital.site()


def rewritten(path, member, old, new, compress=zipfile.ZIP_DEFLATED):
    """A workbook with one of its parts changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert old in parts[member]
    parts[member] = parts[member].replace(old, new, 1)
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


SHEET = "xl/worksheets/sheet1.xml"


def test_dates_and_errors_in_cells(hospital):
    day = datetime.date(2020, 1, 2)
    rows = [["ID", "A", "B"], ["a", day, "#N/A"], ["b", datetime.datetime(2020, 1, 2, 3, 4), "#DIV/0!"]]
    table = read_table(workbook(hospital, rows), "clinical", ["A", "B"])
    assert table.cells["A"] == ("2020-01-02T00:00:00", "2020-01-02T03:04:00")
    assert table.cells["B"] == ("#N/A", "#DIV/0!")


def test_an_error_of_excel_is_no_patient(hospital):
    with pytest.raises(SiteError, match="no patient identifier"):
        read_table(workbook(hospital, [["ID"], ["#N/A"]]), "clinical", [])


def test_formulas_are_read_as_excel_calculated_them(hospital):
    rows = [["ID", "A"], ["a", "=1+1"], ["b", 3]]
    site = workbook(hospital, rows)
    with pytest.raises(SiteError, match="formulas without a value in B2"):
        read_table(site, "clinical", ["A"])
    assert read_table(site, "clinical", []).patients == ("a", "b")
    rewritten(hospital.data / "a.xlsx", SHEET, b"<v />", b"<v>2</v>")
    assert read_table(site, "clinical", ["A"]).cells["A"] == ("2", "3")


@pytest.mark.parametrize(("cells", "column", "refused"), [
    ("A2:A3", "B", True), ("B2:B3", "B", True), ("B2:C2", "C", True), ("C2:C3", "B", False),
])  # fmt: skip
def test_merged_cells_are_refused_where_a_value_is_wanted(hospital, cells, column, refused):
    rows = [["ID", "A", "B"], ["a", 1, 2], ["b", 3, 4]]
    site = workbook(hospital, rows, lambda sheet: sheet.merge_cells(cells))
    wanted = {"B": "A", "C": "B", "A": "ID"}[column]
    if refused:
        with pytest.raises(SiteError, match=f"merged cells {cells}"):
            read_table(site, "clinical", [wanted])
    else:
        assert read_table(site, "clinical", [wanted]).patients == ("a", "b")


def test_a_wrong_dimension_and_cells_beyond_the_header(hospital):
    site = workbook(hospital, [["ID", "A"], ["a", 1], ["b", 2, 3]])
    rewritten(hospital.data / "a.xlsx", SHEET, b'ref="A1:C3"', b'ref="A1"')
    with pytest.raises(SiteError, match="row 3") as caught:
        read_table(site, "clinical", ["A"])
    assert "give the last columns a header" in str(caught.value)


def test_a_workbook_with_a_password(hospital):
    hospital.settings["tables"]["clinical"]["file"] = "locked.xlsx"
    (hospital.data / "locked.xlsx").write_bytes(bytes.fromhex("D0CF11E0A1B11AE1") + bytes(1000))
    with pytest.raises(SiteError, match="a workbook with a password"):
        read_table(hospital.site(), "clinical", [])


def repeated(path):
    rewritten(path, SHEET, b"<sheetData>", b"<sheetData>" + b" " * 60 * 2**20)


def lying(path):
    """The directory says that a part is small; it is not."""
    repeated(path)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(SHEET)
        size = entry.file_size.to_bytes(4, "little")
    content = path.read_bytes()
    path.write_bytes(content.replace(size, (5000).to_bytes(4, "little")))


def entities(path):
    doctype = b'<!DOCTYPE x [<!ENTITY a0 "ha">'
    doctype += b"".join(b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 11)) + b"]>"
    rewritten(path, SHEET, b"<worksheet", doctype + b"<worksheet")
    rewritten(path, SHEET, b"<sheetData>", b"<sheetData><row><c t='inlineStr'><is><t>&a10;</t></is></c></row>")


def foreign_entity(path):
    rewritten(path, SHEET, b"<worksheet", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><worksheet')
    rewritten(path, SHEET, b"<sheetData>", b"<sheetData><row><c t='inlineStr'><is><t>&a;</t></is></c></row>")


def far_row(path):
    rewritten(path, SHEET, b'<row r="2"', b'<row r="99999999999"')


def far_column(path):
    rewritten(path, SHEET, b'r="A2"', b'r="ZZZZZZ2"')


def missing_string(path):
    rewritten(path, SHEET, b't="inlineStr"><is><t>a</t></is>', b't="s"><v>7</v>')


def not_xml(path):
    rewritten(path, SHEET, b"</sheetData>", b"<<<")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def unknown_compression(path):
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"(PK\x01\x02.{6})\x08", lambda match: match[1] + b"\x63", content, flags=re.DOTALL))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (repeated, ["60 MiB", "at most 64 MiB", "no more than 500 times", "CSV"]),
        (lying, []),
        (entities, ["amplification"]),
        (foreign_entity, ["entity"]),
        (far_row, ["more than 1,048,576 rows"]),
        (far_column, []),
        (missing_string, ["IndexError"]),
        (not_xml, ["ParseError"]),
        (truncated, ["BadZipFile"]),
        (unknown_compression, []),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_workbook_that_is_none_or_a_trap_is_one_message(hospital, spoil, message):
    site = workbook(hospital, [["ID", "A"], ["a", 1], ["b", 2]])
    spoil(hospital.data / "a.xlsx")
    began = time.process_time()
    with pytest.raises(SiteError) as caught:
        read_table(site, "clinical", ["A"])
    assert time.process_time() - began < 10
    for part in ["cannot be read", "a.xlsx", "to do:", *message]:
        assert part in str(caught.value)


# --- Parquet ---


def parquet(hospital, columns, **form):
    names, arrays = zip(*columns, strict=True)
    pq.write_table(pa.table(list(arrays), names=list(names)), hospital.data / "a.parquet", **form)
    hospital.settings["tables"]["clinical"] = {"file": "a.parquet", "patient_id": "ID"}
    return hospital.site()


def test_parquet_keeps_numbers_dates_truth_values_and_dictionaries(hospital):
    when = [datetime.datetime(2020, 1, 2), None]
    columns = [
        ("ID", pa.array(["a", "b"])),
        ("whole", pa.array([1, None], pa.int32())),
        ("real", pa.array([2.5, float("nan")])),
        ("exact", pa.array([decimal.Decimal("1.50"), None])),
        ("day", pa.array(when, pa.date32())),
        ("moment", pa.array(when, pa.timestamp("ns"))),
        ("zoned", pa.array(when, pa.timestamp("us", "UTC"))),
        ("yes", pa.array([True, None])),
        ("code", pa.array(["x", None]).dictionary_encode()),
        ("lists", pa.array([[1], [2]])),
        ("HLA", pa.array([1, 2])),
        ("HLA.A", pa.array([3, 4])),
    ]
    site = parquet(hospital, columns)
    names = ["whole", "real", "exact", "day", "moment", "zoned", "yes", "code", "HLA"]
    table = read_table(site, "clinical", names)
    assert [table.cells[name][0] for name in names] == [
        "1", "2.5", "1.50", "2020-01-02", "2020-01-02T00:00:00", "2020-01-02T00:00:00+00:00", "True", "x", "1"
    ]  # fmt: skip
    assert all(table.cells[name][1] == "" for name in names[:-1])
    assert table.rows == (2, 3)
    with pytest.raises(SiteError, match=r"column 'lists' of list"):
        read_table(site, "clinical", ["lists"])


def test_numeric_identifiers_and_many_rows_in_parquet(hospital):
    site = parquet(hospital, [("ID", pa.array(range(3000))), ("A", pa.array(range(3000)))], row_group_size=700)
    table = read_table(site, "clinical", ["A"])
    assert table.patients[-1] == table.cells["A"][-1] == "2999"
    assert table.rows[-1] == 3001


def test_parquet_that_is_none_or_too_large(hospital, monkeypatch):
    site = parquet(hospital, [("ID", pa.array(["a", "b"])), ("ID2", pa.array(["a", "b"]))])
    with pytest.raises(SiteError, match="nearest: 'ID', 'ID2'"):
        read_table(site, "clinical", ["ID3"])
    monkeypatch.setattr("client.tables.parquet.MAX_ROWS", 1)
    with pytest.raises(SiteError, match="2 rows"):
        read_table(site, "clinical", [])
    monkeypatch.undo()
    monkeypatch.setattr("client.tables.parquet.MAX_BYTES", 10)
    with pytest.raises(SiteError, match="GiB of values"):
        read_table(site, "clinical", [])
    monkeypatch.undo()
    content = (hospital.data / "a.parquet").read_bytes()
    for broken in (b"", b"PAR1", content[:-9], content[:60] + bytes(40) + content[100:]):
        (hospital.data / "a.parquet").write_bytes(broken)
        with pytest.raises(SiteError, match="cannot be read"):
            read_table(site, "clinical", ["ID2"])


@pytest.mark.parametrize(
    ("comments", "header"),
    [
        ("#Patient\tAge\n#The patient\tIn years\n#STRING\tNUMBER\n#1\t1\n", "ID\tAge"),
        ("# exported in 2020\n", "ID\tAge"),
        ("", "#ID\tAge"),
    ],
)
def test_comments_above_the_header_are_left_out_and_rows_are_counted_on(hospital, comments, header):
    path = hospital.data / "clinical.txt"
    path.write_text(f"{comments}{header}\np1\t50\np2\t61\n")
    identifier = header.split("\t")[0]
    hospital.settings["tables"] = {"clinical": {"file": path.name, "patient_id": identifier, "separator": "\t"}}
    table = read_table(hospital.site(), "clinical", ["Age"])
    assert table.cells["Age"] == ("50", "61")
    assert table.rows == tuple(comments.count("\n") + number for number in (2, 3))


def test_a_folder_of_parquet_files_is_a_table(hospital):
    folder = hospital.data / "clinical"
    folder.mkdir()
    for part, patients in enumerate((["p1", "p2"], ["p3"])):
        pq.write_table(pa.table({"ID": patients, "Age": [50 + part] * len(patients)}), folder / f"part-{part}.parquet")
    (folder / "_SUCCESS.parquet").write_bytes(b"")
    hospital.settings["tables"] = {"clinical": {"file": "clinical", "patient_id": "ID"}}
    table = read_table(hospital.site(), "clinical", ["Age"])
    assert (table.patients, table.cells["Age"], table.rows) == (("p1", "p2", "p3"), ("50", "50", "51"), (2, 3, 4))
    assert [path.name for path in table_files(hospital.site(), "clinical")] == ["part-0.parquet", "part-1.parquet"]
    pq.write_table(pa.table({"ID": ["p4"], "Years": [1]}), folder / "part-2.parquet")
    with pytest.raises(SiteError, match=r"other columns in part-2\.parquet"):
        read_table(hospital.site(), "clinical", ["Age"])


def test_rows_that_are_hidden_or_struck_out_are_counted(hospital):
    path = hospital.data / "marked.xlsx"
    save_workbook(path, {"Data": [["ID", "Age"], *([f"P{index}", 40 + index] for index in range(20))]})
    book = openpyxl.load_workbook(path)
    sheet = book.active
    sheet.row_dimensions[5].hidden = True
    for row in (7, 9):
        sheet.cell(row, 1).font = openpyxl.styles.Font(strike=True)
        sheet.cell(row, 2).font = openpyxl.styles.Font(strike=True, bold=True)
    sheet.cell(11, 2).font = openpyxl.styles.Font(bold=True)
    book.save(path)
    hospital.settings["tables"]["marked"] = {"file": "marked.xlsx", "patient_id": "ID"}
    remarks = read_table(hospital.site(), "marked", ["Age"]).remarks
    assert [remark.split(" of ")[0] for remark in remarks] == ["1 hidden row", "2 struck-out rows"]


def test_a_quotation_mark_that_swallows_lines_is_an_error_and_a_note_of_two_lines_is_not(hospital):
    lines = [f"P{index},{40 + index},note,3" for index in range(9)]
    lines[2] = 'P2,42,"first line\nsecond, line",3'
    lines[3] = 'P3,43,"pain, fever, and cough,\nsince May",3'  # as many commas as a line has
    path = hospital.data / "notes.csv"
    hospital.settings["tables"]["notes"] = {"file": "notes.csv", "patient_id": "ID"}
    path.write_text("\n".join(["ID,Age,Note,Grade", *lines]), encoding="utf-8")
    assert read_table(hospital.site(), "notes", ["Age"]).patients == tuple(f"P{index}" for index in range(9))
    lines[4], lines[7] = 'P4,44,"note,3', 'P7,47,note",3'
    path.write_text("\n".join(["ID,Age,Note,Grade", *lines]), encoding="utf-8")
    with pytest.raises(SiteError, match="swallows lines") as error:
        read_table(hospital.site(), "notes", ["Age"])
    assert "lines 8 to 11" in str(error.value)
