#!/usr/bin/env bash
# Builds the plugin libraries for NVIDIA cards on a machine that has neither a card nor CUDA, and puts them beside the
# CPU libraries in target/stage/plugins.
#
#   build.sh [--cudnn]    fetch the toolchain (once), build, stage
#   build.sh [--cudnn] --bench
#                         the same, and target/cuda/release/examples/cuda_bench for tests/oracles/bench_cuda.py
#   build.sh --ptx        only compile kernels.cu to the checked-in kernels.ptx
#
# --cudnn: convolutions by cuDNN. Much faster; the library then needs libcudnn.so.9 wherever it is loaded.
# Without it, convolutions go through cuBLAS and the library needs no more than the driver and the CUDA 13 run time.
#
# GANTRY_STAGE names another staged installation than target/stage.
# Everything fetched and built goes to target/cuda-toolchain and target/cuda: about 1.8 GB and 0.8 GB.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
chain=$root/target/cuda-toolchain
cuda=$chain/toolkit/nvidia/cu13

features=cuda
only_ptx=false
bench=false
for argument; do
    case $argument in
        --cudnn) features=cudnn ;;
        --ptx) only_ptx=true ;;
        --bench) bench=true ;;
        *) echo "usage: build.sh [--cudnn] [--bench] | --ptx" >&2; exit 2 ;;
    esac
done
[[ $(uname -sm) == "Linux x86_64" ]] || { echo "build.sh: Linux on x86-64 only" >&2; exit 1; }

# --- The toolchain: wheels of NVIDIA's, pinned by digest, laid out as a CUDA folder. -----------------------------------
if ! cmp -s "$here/toolchain.txt" "$chain/laid-out.txt"; then
    echo "fetching CUDA 13.0 (630 MB)" >&2
    mkdir -p "$chain/wheels"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement "$here/toolchain.txt" --dest "$chain/wheels"
    rm -rf "$chain/toolkit"
    mkdir -p "$chain/toolkit"
    for wheel in "$chain"/wheels/*.whl; do
        python3 -m zipfile --extract "$wheel" "$chain/toolkit"
    done
    chmod +x "$cuda"/bin/* "$cuda"/nvvm/bin/*
    ln -sfn lib "$cuda/lib64"
    # The names a linker looks for.
    for library in "$cuda"/lib/lib*.so.*; do
        name=${library##*/}
        ln -sfn "$name" "$cuda/lib/${name%%.so.*}.so"
    done
    cp "$here/toolchain.txt" "$chain/laid-out.txt"
fi

export CUDA_HOME=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda NVCC=$cuda/bin/nvcc
export PATH=$cuda/bin:$PATH
export LIBRARY_PATH=$cuda/lib:$cuda/lib/stubs
# PTX for sm_80 runs on everything from Ampere up, compiled further by the driver.
export CUDA_COMPUTE_CAP=80

if $only_ptx; then
    cd "$here"
    flags=(-ptx -arch=compute_80 -O3 -std=c++17 --fmad=false)
    {
        echo "// made by plugin-api/neural/cuda/build.sh --ptx: nvcc ${flags[*]} kernels.cu"
        echo "// sha256 of kernels.cu: $(sha256sum kernels.cu | cut -d' ' -f1)"
        nvcc "${flags[@]}" kernels.cu -o -
    } > kernels.ptx.new
    # What a driver would do with it, from Ampere to Blackwell.
    for card in sm_80 sm_90 sm_120; do
        ptxas -arch=$card kernels.ptx.new -o /dev/null
    done
    mv kernels.ptx.new kernels.ptx
    exit
fi

# --- Stand-ins for libraries that only a machine with a card has: the names are there, to link against. -----------------
cargo fetch --quiet --locked --manifest-path "$root/Cargo.toml"
cudarc=$(cargo metadata --format-version 1 --locked --manifest-path "$root/Cargo.toml" --features "cyclegan-generator/$features" |
    python3 -c 'import json, os, sys
print(*(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
stub() { # library, soname, pattern of its functions, source that names them
    mkdir -p "$cuda/lib/stubs"
    grep -rhoE "\bfn $3\w+" "$4" | sort -u | sed -E 's/fn (\w+)/void \1(void) {}/' >"$chain/$1.c"
    echo "stand-in $1: $(wc -l <"$chain/$1.c") functions" >&2
    cc -shared -fPIC -Wl,-soname,"$2" -o "$cuda/lib/stubs/$1.so" -x c "$chain/$1.c"
}
stub libcuda libcuda.so.1 'cu[A-Z]' "$cudarc/src/driver/sys"
[[ $features != cudnn ]] || stub libcudnn libcudnn.so.9 'cudnn[A-Z]' "$cudarc/src/cudnn/sys"

# --- The libraries. -----------------------------------------------------------------------------------------------------
cd "$root"
stage=${GANTRY_STAGE:-$root/target/stage}
for plugin in cyclegan-generator; do
    what=(--lib)
    if $bench; then what+=(--example cuda_bench); fi
    cargo build --release --locked "${what[@]}" --target-dir target/cuda --features "$plugin/$features" \
        --package "$plugin" --config 'profile.release.strip="symbols"'
    name=lib${plugin//-/_}
    folder=$stage/plugins/$plugin
    if [[ -f $folder/plugin.toml ]]; then
        install -m 644 "target/cuda/release/$name.so" "$folder/${name}_cuda.so"
        echo "$folder/${name}_cuda.so: $(stat -c %s "$folder/${name}_cuda.so") bytes" >&2
    else
        echo "target/cuda/release/$name.so: built; no staged plugin to put it beside (cargo run --bin stage makes one)" >&2
    fi
done
