#!/bin/bash
# Launches nvcc (through ccache, if that stands first) and moves what ptxas tells about each kernel
# from its output to OBJECT.ptxas, beside the object. Everything else is shown.
object=
for ((i = 1; i < $#; ++i)); do
  [ "${!i}" = -o ] && { next=$((i + 1)); object=${!next}; }
done
[ -n "$object" ] || exec "$@"
"$@" 2>"$object.ptxas"
status=$?
# What is not of the reports that -Xptxas=-v makes.
grep -Ev '^ptxas info|^    [0-9]+ bytes stack frame' "$object.ptxas" >&2
exit $status
