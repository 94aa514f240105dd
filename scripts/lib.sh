# shellcheck shell=bash
# Shared by the scripts in this folder: sourced, never run.
# shellcheck disable=SC2034 # what is set here is used there

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
STATE="$ROOT/.mqtool"       # what the scripts themselves keep; ignored by git
DEFAULT_IMAGE="rabbitmq:4-management"
LOCAL_IMAGE="mqtool-rabbitmq"

# So that a later apt-get or pip does not ask anything.
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

is_root() { [[ "$(id -u)" == 0 ]]; }

# quietly WHAT COMMAND...: says WHAT, and shows the command's output only when it fails.
quietly() {
  local what="$1" log
  shift
  log="$(mktemp)"
  say "-- $what"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    fail "failed: $what (its last lines are above)"
  fi
  rm -f "$log"
}

can_apt() { is_root && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: installs what is missing, as root; starts no service of it.
apt_install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ -z "${MQTOOL_APT_UPDATED:-}" ]]; then
    quietly "reading the lists of packages" apt-get update -qq
    export MQTOOL_APT_UPDATED=1
  fi
  (
    # The conventional way to tell packages not to start their services.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod 755 /usr/sbin/policy-rc.d
    fi
    quietly "installing ${missing[*]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
  )
}

python_is_new_enough() {
  command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python_can_make_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# find_python: prints a Python that can make the virtual environment; as root, installs one where there is none.
find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if python_is_new_enough "$candidate" && python_can_make_venvs "$candidate"; then
      say "$candidate"
      return
    fi
  done
  can_apt || fail "needs Python 3.11 or newer with its venv module; install the packages python3 and python3-venv"
  {
    apt_install python3 python3-venv
    # A distribution whose own Python is older may have a newer one beside it.
    if ! python_is_new_enough python3 && apt-cache show python3.11-venv >/dev/null 2>&1; then
      apt_install python3.11 python3.11-venv
    fi
  } >&2
  for candidate in python3 python3.11; do
    if python_is_new_enough "$candidate" && python_can_make_venvs "$candidate"; then
      say "$candidate"
      return
    fi
  done
  fail "needs Python 3.11 or newer; this distribution has none, so install one and put it first on PATH"
}

# ensure_venv: the virtual environment with the project and its development packages; at once when nothing changed.
ensure_venv() {
  local stamp="$VENV/.installed-for" wanted python
  wanted="$(cksum <"$ROOT/pyproject.toml") $ROOT"
  if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]] && "$VENV/bin/python" -c '' 2>/dev/null; then
    return
  fi
  if ! python_is_new_enough "$VENV/bin/python"; then
    python="$(find_python)"
    quietly "making the virtual environment .venv with $python" "$python" -m venv --clear "$VENV"
  fi
  # dependency groups need pip 25.1
  quietly "upgrading pip in .venv" "$VENV/bin/python" -m pip install -q --upgrade 'pip>=25.1'
  quietly "installing mqtool and its development packages in .venv" \
    "$VENV/bin/python" -m pip install -q -e "$ROOT" --group "$ROOT/pyproject.toml:dev"
  say "$wanted" >"$stamp"
}

docker_answers() { command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; }

image_present() { docker image inspect "$1" >/dev/null 2>&1; }

# pick_image: sets MQTOOL_TEST_IMAGE, unless it is set, to an image that was built here when the official one is absent.
pick_image() {
  local version
  [[ -z "${MQTOOL_TEST_IMAGE:-}" ]] || return 0
  image_present "$DEFAULT_IMAGE" && return 0
  for version in 4.3 4.0; do
    if image_present "$LOCAL_IMAGE:$version"; then
      export MQTOOL_TEST_IMAGE="$LOCAL_IMAGE:$version"
      return 0
    fi
  done
}

# image_obtainable: whether Docker has the image that the tests and the demo use, or can pull it. Tried only once.
image_obtainable() {
  local image
  docker_answers || return 1
  pick_image
  image="${MQTOOL_TEST_IMAGE:-$DEFAULT_IMAGE}"
  image_present "$image" && return 0
  [[ "${PULL_FAILED:-}" != "$image" ]] || return 1
  say "-- pulling $image"
  timeout 300 docker pull -q "$image" >/dev/null 2>&1 && return 0
  PULL_FAILED="$image"
  return 1
}

native_server() {
  local place
  for place in /usr/lib/rabbitmq/bin /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin; do
    [[ -x "$place/rabbitmq-server" ]] && return 0
  done
  return 1
}

install_native() {
  native_server && return 0
  can_apt || fail "rabbitmq-server is not installed; install the package of that name (apt-get install rabbitmq-server)"
  apt_install rabbitmq-server
  # Not started now, and not at the next boot either: the tests and the demo run nodes of their own.
  if [[ -d /run/systemd/system ]]; then
    systemctl disable --quiet rabbitmq-server.service >/dev/null 2>&1 || true
  fi
}

# ensure_broker: makes sure that some RabbitMQ can be started here.
ensure_broker() {
  [[ -n "${MQTOOL_TEST_URL:-}" ]] && return 0
  image_obtainable && return 0
  native_server && return 0
  can_apt || fail "no RabbitMQ to be had: start Docker, install the package rabbitmq-server, or set MQTOOL_TEST_URL" \
    "and MQTOOL_TEST_MANAGEMENT_URL"
  install_native
}
