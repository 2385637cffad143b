#!/bin/sh
# Makes .env of .env.example, with secrets of its own. Touches no .env that is there.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo "docker/env.sh: there is a .env already" >&2
    exit 1
fi
secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
while IFS= read -r line; do
    case $line in
        *=GKREPLACE) echo "${line%GKREPLACE}GK$(secret 16)" ;;
        *=REPLACE) echo "${line%REPLACE}$(secret 32)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done <.env.example >.env.new
mv .env.new .env
