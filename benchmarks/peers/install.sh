#!/usr/bin/env bash
# Environments for the peers of bench_feature_images.py, one each, under $1 (default /tmp/peers).
#
#     bash benchmarks/peers/install.sh [FOLDER]
#
# torchvision is not installed: torch-lucent and torch-dreams import it (see stand_in/torchvision),
# but need nothing of it that this benchmark uses. They are installed without their declared
# dependencies, which ask for it; what they do need is listed here.
set -euo pipefail
folder=${1:-/tmp/peers}
mkdir -p "$folder"

make_environment() { # name, packages…
    local name=$1
    shift
    test -x "$folder/$name/bin/python" || python3 -m venv "$folder/$name"
    "$folder/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
}

torch=(torch==2.13.0 "numpy<3" pillow tqdm safetensors)
make_environment lucent "${torch[@]}" ipython decorator
make_environment lucent --no-deps torch-lucent==0.1.8 kornia==0.4.1
make_environment dreams "${torch[@]}" matplotlib opencv-python-headless
make_environment dreams --no-deps torch-dreams==4.0.0
make_environment xplique tensorflow-cpu==2.21.0 safetensors tf-keras "tensorflow-probability<=0.25"
make_environment xplique scikit-learn scikit-image matplotlib scipy einops deprecated
make_environment xplique opencv-python-headless
make_environment xplique --no-deps xplique==2.0.2 # its own bounds ask for the CUDA build
