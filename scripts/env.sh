# Sourced by the other scripts: creates .venv if it is missing or out of date, and puts it first in PATH.
# usage: EXTRA=test . scripts/env.sh
#   EXTRA        an extra of pyproject.toml; without it, only what a run needs is installed
#   PYTHON       the interpreter to create the environment with (default: the first that is 3.11 or newer)
#   RUNNER_VENV  the directory of the environment (default: .venv)
# These are variables because a sourced file without arguments of its own sees those of the script.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
venv="${RUNNER_VENV:-.venv}"

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "$0: needs Python 3.11 or newer with the module venv; set PYTHON to such an interpreter" >&2
  return 1
}

# What the environment must match, followed by the extras it has: each script adds its own extra to them.
wanted="$(cat pyproject.toml scripts/env.sh | cksum) $PWD:"
installed="$(cat "$venv/installed" 2>/dev/null || true)"
extra="${EXTRA:-}"
extras=
if [[ "$installed" == "$wanted"* ]]; then extras="${installed#"$wanted"}"; fi
if [[ "$extras" == *" ${extra:-plain} "* ]]; then
  echo "$0: using the environment in $venv" >&2
else
  if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python="$(find_python)" || exit 1
    echo "$0: creating $venv with $("$python" --version)" >&2
    "$python" -m venv --clear "$venv" || exit 1
    extras=
  fi
  echo "$0: installing into $venv${extra:+ (extra: $extra)}" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}" || exit 1
  echo "$wanted${extras:- plain }${extra:+$extra }" > "$venv/installed"
  echo "$0: installed; to have \`runner\` in the PATH of your shell: . $venv/bin/activate" >&2
fi
PATH="$(cd "$venv/bin" && pwd):$PATH"
export PATH
