#!/bin/bash
# A one-node Slurm cluster with two fake GPUs, and what users do on one: an allocation with two engines, an array, a drained node,
# scancel, a requeue, a time limit. Needs root, slurmctld, slurmd and munge (Debian: slurmctld slurmd slurm-client munge).
# usage: tests/clusters/slurm.sh FOLDER_OF_PROGRAMS
set -euo pipefail
programs=$(realpath "${1:?folder of programs}")
here=$(dirname "$(realpath "$0")")
for program in slurmctld slurmd munged sbatch; do
    command -v "$program" >/dev/null || { echo "skipped: test-slurm: $program is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: test-slurm: slurmd needs root"; exit 0; }
for program in loragrid fake-engine; do
    [ -x "$programs/$program" ] || { echo "test-slurm: $programs/$program does not exist"; exit 1; }
done

scratch=$(mktemp -d)
pids=()
cleanup() {
    scancel --user=root 2>/dev/null || true
    [ "${#pids[@]}" -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    pkill -f "munged --socket $scratch/munge.socket" || true
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT

fail() {
    echo "FAILED: $1"
    tail -n 30 "$scratch"/*.log "$scratch"/sweep/results/logs/slurm-* 2>/dev/null || true
    exit 1
}

# Waits until a command succeeds.
until_true() {
    local what=$1
    shift
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what"
        sleep 0.2
    done
}

host=$(hostname -s)
dd if=/dev/urandom of="$scratch/munge.key" bs=1024 count=1 status=none
chmod 400 "$scratch/munge.key"
chmod 755 "$scratch"
munged --socket "$scratch/munge.socket" --key-file "$scratch/munge.key" --pid-file "$scratch/munge.pid" \
    --log-file "$scratch/munge.log" --seed-file "$scratch/munge.seed" --force 2>/dev/null
cat >"$scratch/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$scratch/munge.socket
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmdPidFile=$scratch/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
echo "NodeName=$host Name=gpu File=$scratch/gpu[0-1]" >"$scratch/gres.conf"
for number in 0 1; do mknod "$scratch/gpu$number" c 1 3 2>/dev/null || touch "$scratch/gpu$number"; done
mkdir -p "$scratch/state" "$scratch/spool"
export SLURM_CONF="$scratch/slurm.conf"
slurmctld -D >"$scratch/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D >"$scratch/slurmd.log" 2>&1 &
pids+=($!)
until_true "the node is up" sh -c "sinfo --noheader --format=%T | grep -qE 'idle|mixed'"

# A sweep of a tiny model; the fake engine hangs once in a training where LORAGRID_FAKE says so.
sweep="$scratch/sweep"
mkdir -p "$sweep"
python3 "$here/../tiny_model.py" "$sweep/model"
cd "$sweep"
loragrid() { "$programs/loragrid" "$@"; }
export LORAGRID_PRODUCT_RATE=400e9
unset LORAGRID_DB LORAGRID_DATA LORAGRID_DEVICES
export LORAGRID_ENGINE="$programs/fake-engine"

# Writes a sweep with its [slurm] section, and submits it.
submit() {
    cat >sweep.toml <<SWEEP
name = "$1"
model = "model"
data = "two_digit_subtraction"
eval = ["two_digit_subtraction"]
limit = 5
[axes]
"lora.rank" = [2, 4]
seed = [$2]
[slurm]
gres = "gpu:1"
$3
SWEEP
    loragrid submit sweep.toml --slurm --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["slurm_job"])'
}

states() { loragrid query --json "SELECT state, COUNT(*) AS n FROM runs GROUP BY state" 2>/dev/null; }
count() { loragrid query --json "SELECT COUNT(*) AS n FROM runs WHERE state = '$1'" | grep -o '"n": [0-9]*' | grep -o '[0-9]*$'; }
is_gone() { [ -z "$(squeue --noheader --jobs "$1" 2>/dev/null)" ]; }
is_running() { [ "$(squeue --noheader --jobs "$1" --format=%T 2>/dev/null | head -1)" = RUNNING ]; }
# A requeued job waits for two minutes and longer before Slurm starts it again.
ended_within() {
    local end=$((SECONDS + $1))
    until is_gone "$2"; do
        [ "$SECONDS" -lt "$end" ] || fail "job $2 ends: $(squeue --noheader --jobs "$2" --format='%T %r')"
        sleep 1
    done
}
all_done() { loragrid wait "$1" --timeout 60s >/dev/null; }

echo "an allocation of two tasks runs an engine in each"
id=$(submit allocation "1, 2, 3" "ntasks = 2")
until_true "job $id ends" is_gone "$id"
all_done allocation || fail "allocation: $(states)"
devices=$(loragrid query --json "SELECT DISTINCT device FROM attempts ORDER BY device" | tr -d ' \n')
for slot in 0 1; do
    echo "$devices" | grep -q "@$slot" || fail "both slots are used: $devices"
done

echo "an array of two workers shares the queue"
id=$(submit array "4, 5, 6" "array = 2")
until_true "array $id ends" is_gone "$id"
all_done array || fail "array: $(states)"

echo "a job waits for a drained node, and runs when it is back"
scontrol update nodename="$host" state=drain reason=test
id=$(submit drained "7" "")
until_true "job $id waits" sh -c "squeue --noheader --jobs $id --format='%T %r' | grep -qE 'PENDING (Resources|.*[Nn]ode|ReqNodeNotAvail|Priority)'"
scontrol update nodename="$host" state=resume
until_true "job $id ends" is_gone "$id"
all_done drained || fail "drained: $(states)"

for how in scancel requeue; do
    seeds="8, 9"
    [ "$how" = scancel ] || seeds="11, 12"
    echo "$how in the middle of a training loses nothing"
    export LORAGRID_FAKE="hang@train=$scratch/fault-$how"
    id=$(submit "$how" "$seeds" "ntasks = 2")
    unset LORAGRID_FAKE
    until_true "the training of job $id hangs" test -s "$scratch/fault-$how"
    if [ "$how" = scancel ]; then
        scancel "$id"
        until_true "job $id is cancelled" is_gone "$id"
        until_true "nothing runs any more" sh -c "! kill -0 $(cat "$scratch/fault-$how") 2>/dev/null"
        id=$(submit "$how" "$seeds" "ntasks = 2")
    else
        scontrol requeue "$id"
        until_true "nothing runs any more" sh -c "! kill -0 $(cat "$scratch/fault-$how") 2>/dev/null"
        # Slurm holds a requeued job back for a while.
        sleep 1
        scontrol update jobid="$id" starttime=now 2>/dev/null || true
    fi
    ended_within 170 "$id"
    all_done "$how" || fail "$how: $(states)"
    rm -f sweep.toml
done

echo "a worker stops before the end of its allocation, and its Slurm job queues itself again"
export LORAGRID_FAKE="hang@train=$scratch/fault-time"
id=$(submit time "10" 'time = "1"
resubmit = true')
unset LORAGRID_FAKE
ended_within 300 "$id"
all_done time || fail "time: $(states)"
grep -q "allocation ends in" results/logs/slurm-"$id".log || fail "the worker knew of the end"

[ "$(count failed)" = 0 ] || fail "no job failed: $(states)"
echo "test-slurm: passed on Slurm $(slurmctld -V | cut -d' ' -f2)"
