#!/usr/bin/env bash
# A SLURM of one node on this machine, to try configs/slurm.yml and for the tests: no cluster, no system service.
#
#   apt-get install --no-install-recommends slurm-wlm munge     # Debian; then, as root:
#   tests/local_slurm.sh start FOLDER      # configuration, keys, logs and state go to FOLDER
#   source FOLDER/env                        # sbatch, squeue and sinfo now talk to it
#   tests/local_slurm.sh stop FOLDER
#
# Job accounting needs a database server, which this SLURM has not; FOLDER/bin/sacct, put first on the path by
# FOLDER/env, answers the one question that submitit asks, a job's state, from the controller instead.
set -euo pipefail

command=${1:-}
folder=${2:-}
if [ -z "$folder" ] || { [ "$command" != start ] && [ "$command" != stop ]; }; then
    echo "usage: $0 start|stop FOLDER" >&2
    exit 2
fi

stop() {
    SLURM_CONF="$folder/slurm.conf" timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
    for name in slurmd slurmctld munged; do
        if [ -f "$folder/$name.pid" ]; then
            pid=$(cat "$folder/$name.pid")
            kill "$pid" 2>/dev/null || true
            for _ in $(seq 50); do
                kill -0 "$pid" 2>/dev/null || break
                sleep 0.1
            done
            kill -9 "$pid" 2>/dev/null || true
            rm -f "$folder/$name.pid"
        fi
    done
}

if [ "$command" = stop ]; then
    stop
    exit
fi

[ "$(id -u)" = 0 ] || { echo "only root can start slurmd" >&2; exit 1; }
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurm-wlm munge" >&2; exit 1; }
done

mkdir -p "$folder"/{state,spool,bin}
folder=$(cd "$folder" && pwd)
trap 'echo "SLURM did not start; the logs are in $folder" >&2; stop' ERR
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
host=$(hostname -s)
# submitit names the files of a job by its number: one of an earlier SLURM must not come again
first_job=$(($(date +%s) % 60000000 + 1))

cat > "$folder/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=3600
FirstJobId=$first_job
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=local Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

cat > "$folder/bin/sacct" <<'SACCT'
#!/usr/bin/env bash
# the state of every job that the controller remembers, in the columns of: sacct -o JobID,State,NodeList --parsable2
echo "JobID|State|NodeList"
squeue --noheader --array --states=all --format="%i|%T|%N"
SACCT
chmod +x "$folder/bin/sacct"

cat > "$folder/env" <<ENV
export SLURM_CONF=$folder/slurm.conf
export PATH=$folder/bin:\$PATH
ENV

head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 600 "$folder/munge.key"
munged --force --num-threads=1 --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
slurmctld -f "$folder/slurm.conf"
slurmd -f "$folder/slurm.conf"

export SLURM_CONF=$folder/slurm.conf
for _ in $(seq 300); do
    if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
        echo "SLURM runs: source $folder/env"
        exit 0
    fi
    sleep 0.2
done
false
