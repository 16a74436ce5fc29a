#!/usr/bin/env bash
# On the GPU box: the demo, LoRA and full, on two nodes of one GPU each where there are two GPUs,
# else on one node; with two nodes also once over the network alone.
# usage: [PYTHON=VENV/bin/python] [DEVICE=cpu] demo.sh FOLDER [record] [demo] [network] [faults] [alerts] [overhead]
#
# Without a list all but `overhead` are done. Results end up in FOLDER/results.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: demo.sh FOLDER [record] [demo] [network] [faults] [alerts] [overhead]}; shift
parts=${*:-record demo network faults alerts}
python=${PYTHON:-python3}; device=${DEVICE:-gpu}
export LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1
mkdir -p "$folder/results"; folder=$(cd "$folder" && pwd); results=$folder/results

nodes=${NODES:-}
if [[ -z $nodes ]]; then
  nodes=2
  if [[ $device == gpu ]] && (($(nvidia-smi --list-gpus | wc -l) < 2)); then nodes=1; fi
fi

demo() { # demo TUNER: everything it prints goes to results, its last lines to the terminal
  local begin=$SECONDS code=0
  "$python" -m pyswiftops.cli.main demo --device "$device" --tuner "$1" --nodes "$nodes" \
    --name Swifty --author 'the GPU demo' --folder "$folder/$1" > "$results/demo-$1.txt" 2>&1 || code=$?
  echo "RESULT demo=$1 exit=$code nodes=$nodes device=$device wall_s=$((SECONDS - begin))" | tee -a "$results/demo-$1.txt"
  return "$code"
}

failed=0
for part in $parts; do
  case $part in
    record) "$python" "$here/record.py" "$results/machine" ;;
    demo) # side by side, each in its own folder; on a CPU one after the other
      if [[ $device == gpu ]]; then
        demo lora & first=$!
        demo full & second=$!
        wait "$first" || failed=1
        wait "$second" || failed=1
      else
        demo lora || failed=1
        demo full || failed=1
      fi
      cat "$results/demo-lora.txt" "$results/demo-full.txt" ;;
    network) ((nodes < 2)) && continue
      "$python" "$here/network.py" "$folder/lora" "$results/nccl" 2>&1 | tee "$results/network.txt" || failed=1
      "$python" "$here/record.py" "$results/machine" "$results"/nccl/*.log ;;
    faults) "$python" "$here/faults.py" "$folder/lora" 2>&1 | tee "$results/faults.txt" || failed=1 ;;
    alerts) "$python" "$here/alerts.py" "$folder/lora" 2>&1 | tee "$results/alerts.txt" || failed=1 ;;
    overhead) "$python" "$here/overhead.py" "$folder/lora" ${OVERHEAD:-} 2>&1 | tee "$results/overhead.txt" || failed=1 ;;
    *) echo "unknown part: $part" >&2; exit 2 ;;
  esac
done
exit "$failed"
