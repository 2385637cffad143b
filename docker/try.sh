#!/bin/sh
# Builds the images with Podman and shows that the services of docker-compose.yml run from them (docs/containers.md).
#   BASE            what the images are built on; docker/try/base.sh makes one without a registry
#   BUILD_OPTIONS   more for `podman build`, such as a volume with pip's own settings
#   RUN_OPTIONS     more for `podman run`
set -eu
cd "$(dirname "$0")/.."
BASE=${BASE:-docker.io/library/debian:bookworm-slim}
build() {
    # shellcheck disable=SC2086  # several options in one variable
    podman build --format docker ${BUILD_OPTIONS:-} --build-arg "BASE=$BASE" -f "$1" -t "localhost/$2" "$3"
}
build docker/api.Dockerfile inbetween-api .
build docker/worker.Dockerfile inbetween-worker .
build docker/try/Dockerfile inbetween-stand-ins tests/s3
exec "${PYTHON:-.venv/bin/python}" docker/try/proof.py
