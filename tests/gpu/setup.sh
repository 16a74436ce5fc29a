#!/usr/bin/env bash
# On the GPU box: installs one folder of parcels' files into a virtual environment.
# usage: setup.sh FILES VENV      (call it again for files that come later)
#
# The environment sees the box's own packages (torch above all) behind its own, and this
# checkout, so that jobs need no PYTHONPATH.
set -euo pipefail
shopt -s nullglob
here=$(cd "$(dirname "$0")" && pwd); checkout=$(cd "$here/../.." && pwd)
files=${1:?usage: setup.sh FILES VENV}; venv=${2:?usage: setup.sh FILES VENV}
export LC_ALL=C.UTF-8

if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv --without-pip "$venv"
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  python3 -c 'import site, sysconfig
paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
print("import site;", "; ".join(f"site.addsitedir({path!r})" for path in paths))' > "$site/the_box.pth"
  echo "$checkout" > "$site/the_checkout.pth"
fi
python=$venv/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

for first in "$files"/*.part.00; do
  whole=${first%.part.00}
  cat "$whole".part.* > "$whole.whole"; mv "$whole.whole" "$whole"; rm "$whole".part.*
done

wheels=()
for wheel in "$files"/*.whl; do [[ $wheel == */transformer_engine* ]] || wheels+=("$wheel"); done
if ((${#wheels[@]})); then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade "${wheels[@]}"
fi

# crcmod has no wheel; ms-swift only reaches it through oss2, which nothing here calls.
mkdir -p "$site/crcmod"
printf 'def mkCrcFun(*a, **k):\n    raise NotImplementedError\n' > "$site/crcmod/__init__.py"
printf 'def mkPredefinedCrcFun(n):\n    raise NotImplementedError\n' > "$site/crcmod/predefined.py"

# Transformer Engine looks for NVIDIA's libraries in the environment's own folder.
box=$("$python" -c 'import nvidia.cudnn, os; print(os.path.dirname(list(nvidia.cudnn.__path__)[0]))')
mkdir -p "$site/nvidia"
for folder in "$box"/*; do [[ -e $site/nvidia/${folder##*/} ]] || ln -s "$folder" "$site/nvidia/"; done

# Its three distributions share one package folder, so they are unpacked over one another: an
# installer would replace the folder each time.
for source in "$files"/transformer_engine_torch-*.tar.gz; do
  for wheel in "$files"/transformer_engine*.whl; do
    "$python" -m zipfile -e "$wheel" "$site"
  done
  build=$(mktemp -d)
  tar xzf "$source" -C "$build"
  export CPATH=$box/cudnn/include:$box/nccl/include:$box/cu13/include CUDNN_PATH=$box/cudnn
  export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda} NVTE_FRAMEWORK=pytorch MAX_JOBS=${MAX_JOBS:-$(nproc)}
  (cd "$build"/transformer_engine_torch-*/ && "$python" -m pip install --quiet --no-index --no-deps \
    --no-build-isolation --no-cache-dir --target "$build/out" .)
  cp -rn "$build"/out/* "$site/"
  rm -rf "$build"
  (cd / && "$python" -c 'import transformer_engine.pytorch, swift, mcore_bridge, megatron.core as m, torch
print("ready: swift", swift.__version__, "megatron-core", m.__version__, "torch", torch.__version__)')
done
