#!/usr/bin/env bash
# shellcheck disable=SC2016  # values are taken as they are
# r1 on 2 nodes x 8 ranks; written by isoflop launch
#SBATCH --job-name=llama-r1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --signal=USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=/data/runs/llama/r1/logs/slurm-%j.out

set -uo pipefail
cd /home/ada || exit 2
run=/data/runs/llama/r1
python=/opt/isoflop/bin/python
attempt=${SLURM_RESTART_COUNT:-0}  # unset at the first start

# The environment of every rank; sbatch takes along what was exported where the job was submitted.
export PYTHONPATH=/opt/isoflop${PYTHONPATH:+:$PYTHONPATH}
export NCCL_DEBUG=WARN
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1

if [ "$attempt" -gt 10 ]; then
    echo "isoflop: put back into the queue $attempt times, launch.requeues=10; given up" >&2
    exit 1
fi

# The first node's address: its name need not resolve. A port of this job and this attempt.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol -o show node "$first" | tr ' ' '\n' | sed -n 's/^NodeAddr=//p')
export MASTER_ADDR
port() { echo $((10000 + (SLURM_JOB_ID * 64 + attempt * 8 + $1 * 2) % 20000)); }

# A node whose power is gone is noticed by SLURM only after SlurmdTimeout, often 5 minutes: ask.
all_nodes_answer() { srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 true; }

finish() {
    case "$1" in
        75 | 140) why="stopped before the end" ;;
        0 | 2 | 3) exit "$1" ;;
        *) all_nodes_answer && exit "$1"; why="a node does not answer" ;;
    esac
    state=$(scontrol -o show job "$SLURM_JOB_ID" | tr ' ' '\n' | sed -n 's/^JobState=//p')
    if [ "$attempt" -ge 10 ]; then
        printf 'isoflop: %s; launch.requeues=10 are used up; go on with: cd %q && isoflop launch resume=%q\n' "$why" "$PWD" "$run" >&2
    elif [ "$state" = RUNNING ]; then
        echo "isoflop: $why; back into the queue" >&2
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$1"
}

# What tells the agents of this job from strangers; srun takes it along, and it is written nowhere.
ISOFLOP_RENDEZVOUS_SECRET=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
export ISOFLOP_RENDEZVOUS_SECRET
MASTER_PORT=$(port 0)
export MASTER_PORT
srun --kill-on-bad-exit=0 --wait=60 --open-mode=append --output="${run//%/%%}/logs/%j-%t.out" --cpus-per-task=32 "$python" -P -m launch.agent "$run" --host "$MASTER_ADDR" --port "$MASTER_PORT"
finish $?
