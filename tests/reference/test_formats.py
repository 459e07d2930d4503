#!/usr/bin/env python3
"""The Parquet and CSV files of one sweep, as pyarrow and DuckDB read them, say the same; and its database opens in Python's SQLite.

usage: test_formats.py FOLDER
"""
import csv
import sqlite3
import sys
from pathlib import Path

import duckdb
import duckdb_extension_sqlite_scanner
import pyarrow.parquet as pq

folder = Path(sys.argv[1])
table = pq.read_table(folder / "runs.parquet")
with open(folder / "runs.csv", newline="") as file:
    rows = list(csv.DictReader(file))
assert table.column_names == list(rows[0]), (table.column_names, list(rows[0]))
assert table.num_rows == len(rows) > 1
for name in table.column_names:
    for own, text in zip(table.column(name).to_pylist(), (row[name] for row in rows)):
        if own is None:
            assert text == "", (name, own, text)
        elif isinstance(own, bool):
            assert text == str(own).lower(), (name, own, text)
        elif isinstance(own, float):
            assert float(text) == own, (name, own, text)
        else:
            assert str(own) == text, (name, own, text)
score = next(name for name in table.column_names if name.endswith(":acc"))
by_duckdb = duckdb.sql(f"""SELECT label, "{score}" FROM '{folder / "runs.parquet"}' ORDER BY 1""").fetchall()
database = sqlite3.connect(f"file:{folder / 'loragrid.db'}?mode=ro", uri=True)
task, metric = score.split(":")
by_sqlite = database.execute("SELECT label, value FROM runs JOIN scores USING (job_id) WHERE task = ? AND metric = ? ORDER BY 1", (task, metric)).fetchall()
assert by_duckdb == by_sqlite, (by_duckdb, by_sqlite)
# The extension of this version of DuckDB, out of a package: the place where DuckDB looks for it itself may be out of reach.
extension = next(Path(duckdb_extension_sqlite_scanner.__file__).parent.rglob("*.duckdb_extension"))
duckdb.sql(f"LOAD '{extension}'")
duckdb.sql(f"ATTACH '{folder / 'loragrid.db'}' AS results (TYPE sqlite, READ_ONLY)")
found = duckdb.sql(f"SELECT r.label, s.value FROM results.runs r JOIN results.scores s USING (job_id) WHERE task = '{task}' AND metric = '{metric}' ORDER BY 1").fetchall()
assert found == by_sqlite, (found, by_sqlite)
for view in ["runs", "scores", "curves", "documents", "attempts", "samples"]:
    # DuckDB takes a comparison for a boolean where SQLite has 0 and 1.
    plain = lambda row: repr([int(value) if isinstance(value, bool) else value for value in row])
    both = [sorted(map(plain, rows)) for rows in (duckdb.sql(f"SELECT * FROM results.{view}").fetchall(), database.execute(f"SELECT * FROM {view}").fetchall())]
    assert both[0] == both[1], (view, both[0][:2], both[1][:2])
print(f"formats: {table.num_rows} rows of {len(table.column_names)} columns are the same in Parquet, CSV, DuckDB and SQLite")
