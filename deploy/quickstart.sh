#!/bin/bash
# From a bare Debian 12 to a model that answers: packages, build, model, router and workers.
# Serves on 127.0.0.1:8000 until Ctrl-C. A second run takes seconds.
#   --once      stop after the first reply
#   --port P    another port: a cluster of its own beside one that runs already
#   --tp N      N ranks (processes) that share the model, instead of one with all cores
# TANDEM_MODEL=/path serves that GGUF file or Hugging Face folder. The log is build/quickstart.log, with
# another port build/quickstart-P.log. Exit codes: 0 done, or stopped; 2 a mistake in the arguments; 1
# other.
set -euo pipefail
cd "$(dirname "$0")/.."

once=no port=8000 tp=1
die() { echo "quickstart.sh: $*" >&2; exit 1; }
mistake() { echo "quickstart.sh: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --once) once=yes ;;
    --port) port=${2:-}; [ $# -lt 2 ] || shift ;;
    --tp) tp=${2:-}; [ $# -lt 2 ] || shift ;;
    --help | -h) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) mistake "unknown option '$1'; --once, --port P, --tp N, --help" ;;
  esac
  shift
done
if ! [[ "$port" =~ ^[0-9]{1,5}$ ]] || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
  mistake "--port '$port': a number from 1 to 65535"
fi

if ! [[ "$tp" =~ ^[0-9]{1,2}$ ]] || [ "$tp" -lt 1 ] || [ "$tp" -gt 64 ]; then
  mistake "--tp '$tp': a number from 1 to 64"
fi

step() { printf '\n== %s\n' "$*"; }
in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
in_use "$port" && die "port $port is in use; stop what listens there, or --port P"

step "packages"
deploy/install-deps.sh

step "build"
mkdir -p build
# A file of Beast with coroutines takes 0.7 GB to compile.
memory_gb=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1048576))
jobs=$(nproc)
[ "$jobs" -le "$memory_gb" ] || jobs=$((memory_gb > 1 ? memory_gb : 1))
cmake --preset release >build/configure.log 2>&1 ||
  { cat build/configure.log >&2; die "cmake failed (above)"; }
cmake --build --preset release -j "$jobs" --target tandem tandem-router tandem-worker

step "model"
model=$(deploy/get_model.sh)
echo "$model"

step "start"
bin=build/release/bin config=configs/quickstart.yaml log=build/quickstart.log
if [ "$tp" != 1 ]; then
  config=build/quickstart-tp.yaml
  sed "s/^    tp: 1 /    tp: $tp /" configs/quickstart.yaml >"$config"
fi
if [ "$port" != 8000 ]; then  # not the links, the folder and the log of one that may run at 8000
  from=$config config=build/quickstart-$port.yaml log=build/quickstart-$port.log
  { cat "$from"
    echo "links:"
    echo "  routers: [ipc:///tmp/tandem-$(id -u)-$port.ipc]"
    echo "  runtime_dir: /tmp/tandem-$(id -u)-$port"
  } >"$config"
fi
"$bin/tandem" check "$config" --model "$model" --port "$port"

up=
stop() {
  trap 'kill -TERM "$up" 2>/dev/null' INT TERM HUP  # once more: kills what is left
  kill -TERM "$up" 2>/dev/null || true
  while kill -0 "$up" 2>/dev/null; do wait "$up" || true; done
}
# shellcheck disable=SC2317  # by trap
on_signal() {
  echo
  echo "stopping"
  stop
  exit 0
}
# SIGTERM also when this script is killed.
setpriv --pdeathsig TERM "$bin/tandem" up "$config" --model "$model" --port "$port" >"$log" 2>&1 &
up=$!
trap on_signal INT TERM HUP
trap stop EXIT

url=http://127.0.0.1:$port
ranks="$tp ranks"
[ "$tp" != 1 ] || ranks="1 rank"
start=$SECONDS
until curl -fs -o /dev/null --max-time 2 "$url/ready" 2>/dev/null; do
  if ! kill -0 "$up" 2>/dev/null; then
    echo >&2
    tail -n 20 "$log" >&2
    die "tandem up ended (above, and $log)"
  fi
  if [ $((SECONDS - start)) -ge 300 ]; then
    tail -n 20 "$log" >&2
    die "not ready after 300 s (above, and $log)"
  fi
  [ -t 1 ] && printf '\rwaiting for router and %s: %d s ' "$ranks" $((SECONDS - start))
  sleep 0.1
done
[ -t 1 ] && printf '\r'
echo "ready: router and $ranks on $url             "

step "first reply"
python3 deploy/first_reply.py "$url" || { tail -n 20 "$log" >&2; die "no reply (above, and $log)"; }

if [ "$once" = yes ]; then
  stop
  exit 0
fi
name=$(curl -fs "$url/v1/models" | python3 -c 'import json,sys; print(json.load(sys.stdin)["data"][0]["id"])')
cat <<TEXT

== next
curl $url/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{"model": "$name", "messages": [{"role": "user", "content": "Hello!"}], "stream": true}'

from openai import OpenAI
client = OpenAI(base_url="$url/v1", api_key="none")
print(client.chat.completions.create(
    model="$name", messages=[{"role": "user", "content": "Hello!"}]).choices[0].message.content)

Serving until Ctrl-C; the log is $log.
TEXT
status=0
wait "$up" || status=$?
tail -n 20 "$log" >&2
die "tandem up ended with $status (above, and $log)"
