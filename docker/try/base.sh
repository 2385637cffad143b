#!/bin/sh
# Makes localhost/debian:bookworm-slim with debootstrap, for where no registry of images can be reached. Needs root.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase bookworm "$folder" "${MIRROR:-http://deb.debian.org/debian}"
cat >"$folder/etc/apt/sources.list" <<'END'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian-security bookworm-security main
END
# What makes it slim, now and when more is installed.
for path in doc info locale man; do
    echo "path-exclude /usr/share/$path/*"
    rm -rf "$folder/usr/share/$path"/*
done >"$folder/etc/dpkg/dpkg.cfg.d/slim"
rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/var/log/*.log
tar -C "$folder" -c . | podman import - localhost/debian:bookworm-slim
