#!/bin/sh
# Build the extension with AddressSanitizer and UndefinedBehaviorSanitizer, apart from the working
# tree, and run the tests of this folder, the leak check, starved allocations and many damaged
# documents on it.  PYTHON= names the Python, CASES= how many documents.
set -eu
python=${PYTHON:-.venv/bin/python}
cases=${CASES:-10000000}
root=$(cd "$(dirname "$0")/../.." && pwd)
case $python in /*) ;; *) python=$PWD/$python ;; esac
work=${SANITIZE_DIR:-$(mktemp -d)}
trap '[ -n "${SANITIZE_DIR:-}" ] || rm -rf "$work"' EXIT
mkdir -p "$work"
cp -R "$root/setup.py" "$root/pyproject.toml" "$root/_speedups" "$root/quart_session" "$root/tests" "$work"
cd "$work"
rm -f quart_session/*.so _speedups/*.c
CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
    LDFLAGS="-fsanitize=address,undefined" \
    "$python" setup.py --quiet build_ext --inplace
# The allocator of Python keeps freed memory out of the sanitizer's sight.
export PYTHONMALLOC=malloc PYTHONPATH="$work:$work/tests" QUART_SESSION_SANITIZED=1
# What Python itself does not free at its end is no leak of this extension; memory.py looks for those.
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
LD_PRELOAD="$(${CC:-cc} -print-file-name=libasan.so) $(${CC:-cc} -print-file-name=libubsan.so)"
export LD_PRELOAD
"$python" -m pytest tests/hotpath --confcutdir tests/hotpath -q -p no:cacheprovider -k "not in_proportion and not cost_no_more"
"$python" tests/hotpath/memory.py drift --batches 5 --size 2000
"$python" tests/hotpath/memory.py starve --sites 200
"$python" tests/hotpath/fuzz.py --cases "$cases" survive
