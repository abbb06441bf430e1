# One image for every role: the command says which (`api`, `worker generation`, …).

# A tag, so that a build takes the present security updates of Debian and Python with it. To build the same image
# twice, name the digest that your registry shows: --build-arg BASE=python:3.13-slim-bookworm@sha256:…
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /build
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv --without-pip /opt/agent-service \
    && pip install --no-deps --require-hashes --only-binary :all: -r requirements/build.txt \
    && pip --python /opt/agent-service/bin/python install \
        --no-deps --require-hashes --only-binary :all: --compile -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY agent_service agent_service
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/agent-service/bin/python install --no-deps --no-index --compile dist/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="agent-service" \
    org.opencontainers.image.description="AI-agent requests on MongoDB: API and workers in one image" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}"
# tini is process 1: it hands signals on and reaps what a worker leaves behind. Certificates are the system's.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /opt/agent-service /opt/agent-service
ENV LOG_FORMAT=json \
    PATH=/opt/agent-service/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["agent-service", "health"]
ENTRYPOINT ["tini", "--", "agent-service"]
CMD ["api"]
