#!/usr/bin/env bash
# Downloads what an offline GPU box lacks, in parcels that are each smaller than a limit.
# usage: fetch.sh DIR [BYTES]     (on a machine that reaches a package registry)
#
# The box is expected to have Python 3.12, torch with CUDA 13, and the packages that
# tests/gpu/README.md names. DIR/0, DIR/1 ... are the parcels; bring them over one by one.
# Files that are larger than a parcel travel as NAME.part.NN and are joined by setup.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?usage: fetch.sh DIR [BYTES]}; limit=${2:-57000000}; te=2.20.2
python=${PYTHON:-python3}
mkdir -p "$target"; target=$(cd "$target" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

platforms=(--only-binary=:all: --python-version 3.12 --implementation cp)
for glibc in 28 27 24 17 34 31 35; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
for old in 2014 2010 1; do platforms+=(--platform "manylinux${old}_x86_64"); done

get() { "$python" -m pip download --quiet --no-deps "${platforms[@]}" -d "$work" "$1" 2>/dev/null; }
sources=()
while read -r requirement; do
  [[ -z $requirement || $requirement == \#* ]] || get "$requirement" || sources+=("$requirement")
done < "$here/wheels.txt"
get "transformer-engine==$te"; get "transformer-engine-cu13==$te"
for requirement in "${sources[@]}"; do # published as source only: these are pure Python
  echo "building a wheel of $requirement" >&2
  "$python" -m pip wheel --quiet --no-deps -w "$work" "$requirement"
done
for wheel in "$work"/*.whl; do
  case $wheel in *-any.whl | *x86_64.whl) ;; *) echo "$wheel is not for the box" >&2; exit 1 ;; esac
done

# The torch part of Transformer Engine is source only, and is compiled on the box. Its metadata
# step asks torch for the CUDA version; any torch will do here if it is told one.
shim=$work/shim; mkdir "$shim"
cat > "$shim/sitecustomize.py" <<'PYTHON'
try:
    import torch

    torch.version.cuda = "13.0"
except ImportError:
    pass
PYTHON
PYTHONPATH=$shim "$python" -m pip download --quiet --no-deps --no-binary=:all: \
  --no-build-isolation -d "$work" "transformer-engine-torch==$te"
rm -r "$shim"

# First fit: small files share parcels, large ones are split.
number=0; filled=0; mkdir -p "$target/0"
put() {
  local size; size=$(stat -c %s "$1")
  if ((filled && filled + size > limit)); then number=$((number + 1)); filled=0; fi
  mkdir -p "$target/$number"; mv "$1" "$target/$number/"; filled=$((filled + size))
}
for file in "$work"/*; do
  if (($(stat -c %s "$file") <= limit)); then put "$file"; continue; fi
  split --bytes "$limit" --numeric-suffixes "$file" "$file.part."; rm "$file"
done
for file in "$work"/*; do put "$file"; done
du -sh "$target"/*
