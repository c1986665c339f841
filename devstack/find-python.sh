#!/usr/bin/env bash
# Print the path of a Python 3.13, or say in one line what is missing.
set -u
for candidate in \
    "$(command -v python3.13)" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python \
    "$HOME"/.pyenv/versions/3.13*/bin/python \
    "$(command -v python3)" \
    "$(command -v python)"; do
  [ -x "$candidate" ] || continue
  if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.13 ]; then
    echo "$candidate"
    exit 0
  fi
done
echo "Python 3.13 is missing: install it (python3.13, or 'pyenv install 3.13'), then run this again" >&2
exit 1
