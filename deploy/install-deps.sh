#!/bin/bash
# Installs the Debian 12 packages that Tandem needs; quick when they are there.
#   deploy/install-deps.sh           to build and run
#   deploy/install-deps.sh --test    and what deploy/test.sh uses: clang, its tools and libFuzzer, valgrind
# As root, or with sudo.
set -euo pipefail

build=(
  build-essential g++ cmake ninja-build ccache pkg-config git ca-certificates curl
  python3 python3-venv python3-pip
  libboost1.81-dev libboost-json1.81-dev libssl-dev libzmq3-dev cppzmq-dev
  protobuf-compiler libprotobuf-dev libabsl-dev libfmt-dev libspdlog-dev libxxhash-dev libutf8proc-dev
  libcli11-dev libyaml-cpp-dev prometheus-cpp-dev zlib1g-dev libgloo-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
test=(clang clang-tidy clang-format libclang-rt-14-dev iproute2 valgrind)

die() { echo "install-deps.sh: $*" >&2; exit 1; }

case "${1:-}" in
  "") wanted=("${build[@]}") ;;
  --test) wanted=("${build[@]}" "${test[@]}") ;;
  *) die "unknown option '$1'; none, or --test" ;;
esac

command -v dpkg-query >/dev/null || die "no dpkg: this is for Debian 12; install by other means: ${wanted[*]}"

mapfile -t missing < <(
  comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
      sed -n 's/^installed //p' | sort -u)
)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "missing: ${missing[*]}; run this as root, or install sudo"
  as_root=(sudo)
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 \
    -o DPkg::Lock::Timeout=300 "$@"
}
echo "installing: ${missing[*]}"
apt update >/dev/null || die "apt-get update failed (above); is the network there?"
apt install -y --no-install-recommends "${missing[@]}" >/dev/null ||
  die "apt-get install failed (above); this is for Debian 12 (bookworm)"
