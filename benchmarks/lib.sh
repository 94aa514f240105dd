# shellcheck shell=bash
# Shared by the commands in this folder: sourced, never run.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

BENCH_STATE="$STATE/benchmarks" # the virtual environment, the compiled C program, and results
BENCH_VENV="$BENCH_STATE/venv"
C_PROGRAM="$BENCH_STATE/c-client"

# ensure_bench_venv: a virtual environment with the project and its peers; at once when nothing changed.
ensure_bench_venv() {
  local stamp="$BENCH_VENV/.installed-for" wanted
  wanted="$(cat "$ROOT/pyproject.toml" "$ROOT/benchmarks/requirements.txt" | cksum) $ROOT"
  if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]] && "$BENCH_VENV/bin/python" -c '' 2>/dev/null; then
    return
  fi
  mkdir -p "$BENCH_STATE"
  if ! python_is_new_enough "$BENCH_VENV/bin/python"; then
    local python
    python="$(find_python)"
    quietly "making a virtual environment for the benchmarks with $python" "$python" -m venv --clear "$BENCH_VENV"
  fi
  quietly "installing mqtool and the clients that it is compared with" \
    "$BENCH_VENV/bin/python" -m pip install -q -e "$ROOT" -r "$ROOT/benchmarks/requirements.txt"
  say "$wanted" >"$stamp"
}

# ensure_c_program: the C program, compiled if its source is newer; without librabbitmq it is left out, and said.
ensure_c_program() {
  local source="$ROOT/benchmarks/c/bench.c" compiler="${CC:-cc}"
  [[ "$C_PROGRAM" -nt "$source" ]] && return
  rm -f "$C_PROGRAM"
  if ! command -v "$compiler" >/dev/null; then
    say "-- without the C client: there is no C compiler (apt-get install gcc librabbitmq-dev)"
  elif ! "$compiler" -O2 -o "$C_PROGRAM" "$source" -lrabbitmq 2>/dev/null; then
    say "-- without the C client: it does not compile; is librabbitmq there (apt-get install librabbitmq-dev)?"
  fi
}

# in_bench_venv MODULE ARGUMENT...: runs a module of this folder.
in_bench_venv() {
  ensure_bench_venv
  ensure_c_program
  cd "$ROOT"
  exec "$BENCH_VENV/bin/python" -m "$@"
}
