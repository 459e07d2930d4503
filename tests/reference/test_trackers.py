"""What MLflow, TensorBoard and Trackio received, read by themselves: python test_trackers.py target/release"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PROGRAMS = Path(sys.argv[1]).resolve()
MODEL = PROGRAMS.parent.parent / ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
SWEEP = """
name = "night-shift"
model = "MODEL"
data = "two_digit_subtraction"
eval = ["two_digit_subtraction", "two_digit_addition"]
limit = 10
[axes]
"lora.rank" = [2, 4]
seed = [1, 2]
[track]
mlflow = "http://127.0.0.1:PORT"
tensorboard = "events"
trackio = "night.shift"
"""
SCORES = ("two_digit_subtraction/acc", "two_digit_addition/acc")


def loragrid(folder, *words, ok=True):
    command = [str(PROGRAMS / "loragrid"), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert not ok or done.returncode == 0, (words, done.stderr)
    return done


def mlflow_server(folder, port):
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", f"{folder}/artifacts"]
    log = (folder / "mlflow.log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
            return process
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, (folder / "mlflow.log").read_text()
            time.sleep(0.2)


def stored(folder):
    """By label: curve and scores in the database."""
    rows = loragrid(folder, "query", "--json", "SELECT job_id, label, kind FROM runs ORDER BY position").stdout
    found = {}
    for row in json.loads(rows)["rows"]:
        job = row["job_id"]
        query = lambda sql, job=job: json.loads(loragrid(folder, "query", "--json", sql.replace("JOB", job)).stdout)["rows"]
        found[row["label"]] = {
            "job": job,
            "loss": {point["step"]: point["loss"] for point in query("SELECT step, loss FROM curves WHERE job_id = 'JOB'")},
            "scores": {
                f"{score['task']}/{score['metric']}": score["value"]
                for score in query("SELECT task, metric, value FROM scores WHERE job_id = 'JOB'")
            },
        }
    return found


def near(a, b):
    return abs(a - b) <= 1e-6 * max(1.0, abs(a))


def check_mlflow(folder, port, expected):
    import mlflow

    client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
    output = loragrid(folder, "export", "--to", "mlflow").stdout
    assert output.startswith("night-shift: sent 5 of 5 jobs to mlflow"), output
    assert loragrid(folder, "export", "--to", "mlflow").stdout.startswith("night-shift: sent 0 of 5 jobs"), "sent twice"
    loragrid(folder, "export", "--to", "mlflow", "--again")
    experiment = client.get_experiment_by_name("night-shift")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len(expected) == 5, len(runs)
    for run in runs:
        row = expected[run.info.run_name]
        assert run.info.status == "FINISHED" and run.data.tags["loragrid.job"] == row["job"]
        assert run.info.end_time >= run.info.start_time > 0
        history = client.get_metric_history(run.info.run_id, "train/loss") if row["loss"] else []
        assert {point.step: point.value for point in history} == row["loss"], "the curve, once"
        assert all(near(run.data.metrics[name], row["scores"][name]) for name in SCORES)
        if row["loss"]:
            assert run.data.params["train.learning_rate"] and run.data.params["lora.rank"] in "24"
    print("mlflow: passed")


def check_tensorboard(folder, expected):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    root = folder / "events" / "night-shift"
    runs = {path.name: path for path in root.iterdir()}
    assert len(runs) == 5, runs
    for label, row in expected.items():
        name = next(name for name in runs if name.endswith(row["job"][:8]))
        events = EventAccumulator(str(runs[name])).Reload()
        scalars = {event.step: event.value for event in events.Scalars("train/loss")} if row["loss"] else {}
        assert scalars.keys() == row["loss"].keys() and all(near(scalars[step], loss) for step, loss in row["loss"].items())
        assert all(near(events.Scalars(name)[-1].value, row["scores"][name]) for name in SCORES), label
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        assert start.hparams["seed"].number_value in (0, 1, 2, 1337) or not row["loss"], start
        assert not row["loss"] or start.hparams["lora.rank"].number_value in (2, 4)
    assert loragrid(folder, "export", "--to", "tensorboard").stdout.startswith("night-shift: sent 0 of 5 jobs"), "sent during the run"
    print("tensorboard: passed")


def check_trackio(expected):
    from trackio.sqlite_storage import SQLiteStorage

    project = "nightshift"
    runs = SQLiteStorage.get_runs(project)
    assert sorted(runs) == sorted(expected), runs
    for label, row in expected.items():
        logs = SQLiteStorage.get_logs(project, label)
        losses = {entry["step"]: entry["train/loss"] for entry in logs if "train/loss" in entry}
        assert losses == row["loss"], (label, losses)
        scores = {name: entry[name] for entry in logs for name in SCORES if name in entry}
        assert all(near(scores[name], row["scores"][name]) for name in SCORES), (label, scores)
    print("trackio: passed")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TRACKIO_DIR"] = str(folder / "trackio")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (folder / "sweep.toml").write_text(SWEEP.replace("MODEL", str(MODEL)).replace("PORT", str(port)))
        started = time.monotonic()
        done = loragrid(folder, "run", "sweep.toml", "--engine", str(PROGRAMS / "fake-engine"))
        assert time.monotonic() - started < 30, "a tracker that is down delays a run"
        assert "mlflow did not receive everything of sweep night-shift" in done.stderr, done.stderr
        expected = stored(folder)
        refused = loragrid(folder, "export", "--to", "mlflow", ok=False)
        assert refused.returncode == 14 and "cannot be reached" in refused.stderr, refused
        check_tensorboard(folder, expected)
        check_trackio(expected)
        server = mlflow_server(folder, port)
        try:
            check_mlflow(folder, port, expected)
        finally:
            server.terminate()
            server.wait(timeout=30)
    print("3 passed, 0 failed")


if __name__ == "__main__":
    main()
