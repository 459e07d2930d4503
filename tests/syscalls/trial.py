"""What the tests of system calls and of power cuts share: a sweep of a tiny model, run in a folder of its own with a library loaded before
libc, and what is in the folder afterwards."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import tiny_model  # noqa: E402

SCORES = "SELECT label, task, metric, value FROM runs JOIN scores USING (job_id) ORDER BY label, task, metric"


def compiled(source, folder):
    """A shared library of a C file beside this one."""
    made = folder / f"{source}.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", made, HERE / f"{source}.c", "-ldl"], check=True)
    return made


def prepare(folder, sweep):
    """Writes the model and the sweep file."""
    tiny_model.write(folder / "model")
    (folder / "sweep.toml").write_text(sweep)


def environment(folder, engine, more):
    """The environment of a run, without what the caller's says of loragrid."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LORAGRID_")}
    own = {"LORAGRID_ENGINE": str(engine), "LORAGRID_PRODUCT_RATE": "400e9", "LORAGRID_PACK": "1", "HOME": str(folder)}
    return {**kept, **own, **more}


def results(folder):
    """Whether the database is whole, the scores, and how many jobs are in each state."""
    database = sqlite3.connect(f"file:{folder / 'results/loragrid.db'}?mode=ro", uri=True)
    whole = database.execute("PRAGMA integrity_check").fetchone()[0]
    found = database.execute(SCORES).fetchall()
    states = dict(database.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state"))
    database.close()
    return whole, found, states
