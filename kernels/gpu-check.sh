#!/usr/bin/env bash
# Checks the kernels on a CUDA device and prints one table for benches/RESULTS.md: twin tests with a device demanded,
# compute-sanitizer over them, and the benches of the kernels on the device.
#
#   kernels/gpu-check.sh [--no-sanitizer] [--no-bench]
#
# Needs a CUDA device with its driver, libnvrtc of CUDA 12, g++, cargo, and compute-sanitizer of the CUDA toolkit. Says what
# is missing and ends with 1; ends with 1 too where a check fails, after the table.
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizer=yes
bench=yes
for argument in "$@"; do
    case "$argument" in
        --no-sanitizer) sanitizer=no ;;
        --no-bench) bench=no ;;
        *)
            echo "gpu-check: unknown argument '$argument'; see the head of kernels/gpu-check.sh" >&2
            exit 2
            ;;
    esac
done

missing() {
    echo "gpu-check: $1" >&2
    exit 1
}

command -v nvidia-smi >/dev/null || missing "no CUDA device: nvidia-smi is not installed"
card=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader --id=0) ||
    missing "no CUDA device: nvidia-smi finds none"
[ -n "$card" ] || missing "no CUDA device: nvidia-smi finds none"
command -v cargo >/dev/null || missing "cargo is not installed"
command -v g++ >/dev/null || missing "g++ is not installed"
if [ "$sanitizer" = yes ] && ! command -v compute-sanitizer >/dev/null; then
    missing "compute-sanitizer is not installed; --no-sanitizer leaves it out"
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=no
table=()

# Runs a check and adds its line to the table: a name, then the command. Its output is shown where it fails.
check() {
    local name=$1 log="$logs/check.log" start=$SECONDS result
    shift
    echo "gpu-check: $name" >&2
    if "$@" >"$log" 2>&1; then
        result="passed"
    else
        result="FAILED"
        failed=yes
        tail -n 60 "$log" >&2
    fi
    local counts
    counts=$(sed -nE 's/^test result: [a-zA-Z]+\. ([0-9]+) passed; ([0-9]+) failed.*/\1 passed, \2 failed/p' "$log" | tail -n 1)
    table+=("| $name | $result${counts:+, $counts} | $((SECONDS - start)) s |")
}

# The test program of the kernels, built once and run by itself, so that compute-sanitizer watches nothing else.
echo "gpu-check: building" >&2
cargo test --package juno-kernels --lib --no-run 2>"$logs/build.log" || {
    tail -n 60 "$logs/build.log" >&2
    missing "the tests do not build"
}
tests=$(sed -nE 's/.*Executable .*\((.*)\)$/\1/p' "$logs/build.log" | tail -n 1)
[ -x "$tests" ] || missing "cargo did not say where the test program is"

export JUNO_REQUIRE_GPU=1 JUNO_REQUIRE_NVRTC=1 JUNO_REQUIRE_SHIM=1
check "all tests, twins on the device" "$tests"
if [ "$sanitizer" = yes ]; then
    for tool in memcheck racecheck initcheck; do
        check "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$tests" the_twins_agree --test-threads 1
    done
fi

speeds=""
if [ "$bench" = yes ]; then
    echo "gpu-check: benches" >&2
    if ! speeds=$(cargo run --release --package juno-benches --bin kernels -- --device-only 2>"$logs/bench.log"); then
        tail -n 60 "$logs/bench.log" >&2
        failed=yes
        speeds="The benches FAILED."
    fi
fi

echo
echo "GPU check: $card; commit $(git rev-parse --short HEAD)"
echo
echo "| check | result | time |"
echo "|---|---|---|"
printf '%s\n' "${table[@]}"
if [ -n "$speeds" ]; then
    echo
    printf '%s\n' "$speeds"
fi
[ "$failed" = no ]
