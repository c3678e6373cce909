# Sourced by the other scripts: makes .venv if it is missing or out of date, and puts it first in PATH.
# usage: EXTRA=test . scripts/env.sh     EXTRA is an extra of pyproject.toml; without, only what a run needs.
# Not an argument: a sourced file without arguments of its own would see those of the script.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "$0: needs Python 3.11 or newer with the venv module; set PYTHON to one" >&2
  return 1
}

# What the environment was made of, and the extras it has: a script adds its own to those of the others.
made_of="$(cat pyproject.toml scripts/env.sh | cksum) $PWD:"
have="$(cat .venv/made-of 2>/dev/null || true)"
extra="${EXTRA:-}"
extras=
if [[ "$have" == "$made_of"* ]]; then extras="${have#"$made_of"}"; fi
if [[ "$extras" == *" ${extra:-plain} "* ]]; then
  echo "$0: using the environment in .venv" >&2
else
  if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    python="$(find_python)" || exit 1
    echo "$0: making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv || exit 1
    extras=
  fi
  echo "$0: installing into .venv${extra:+ (extra: $extra)}" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}" || exit 1
  echo "$made_of${extras:- plain }${extra:+$extra }" > .venv/made-of
fi
export PATH="$PWD/.venv/bin:$PATH"
