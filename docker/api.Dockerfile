# What needs no torch: the API, the keeper, webhook workers. Built from the root of the repository:
#   docker build -f docker/api.Dockerfile -t inbetween-api .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip has an environment of its own, and so is not in the image.
RUN python3 -m venv /build && python3 -m venv --without-pip /app
WORKDIR /source
COPY docker/build.txt docker/python.txt constraints.txt ./
RUN /build/bin/pip install --no-cache-dir --disable-pip-version-check -r build.txt
COPY pyproject.toml README.md LICENSE ./
# The dependencies, in a layer that stays as it is while only our own code changes: this wheel is empty but for them.
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /empty . \
    && /build/bin/pip --python /app/bin/python install --no-cache-dir --disable-pip-version-check \
    -c constraints.txt -c python.txt "$(echo /empty/*.whl)[service,tracing]"
COPY mpd mpd
COPY service service
COPY worker worker
COPY server server
COPY inbetween inbetween
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /ours . \
    && /build/bin/pip --python /app/bin/python install --no-deps --force-reinstall /ours/*.whl \
    && rm -r /app/lib/python3*/site-packages/mpd/sprites/weights

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin inbetween
COPY --from=build /app /app
# The root file system may be read-only: nothing is written but below /tmp.
ENV PATH=/app/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 LOG_FORMAT=json
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["inbetween-server", "health", "api"]
ENTRYPOINT ["/usr/bin/tini", "--", "inbetween-server"]
CMD ["api"]
