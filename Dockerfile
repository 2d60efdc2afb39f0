# syntax=docker/dockerfile:1
# Two targets: `cpu` (the default) and `cuda`. The images hold service/, facet/ and bundles/, and never torch.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04

FROM ${PYTHON_IMAGE} AS build-cpu
WORKDIR /src
RUN python -m venv /opt/facet
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY facet facet
COPY facet_ray/__init__.py facet_ray/__init__.py
COPY service service
COPY training/__init__.py training/__init__.py
COPY export/__init__.py export/__init__.py
RUN /opt/facet/bin/pip install --no-cache-dir -c constraints.txt '.[cpu,otel,v2]'
RUN /opt/facet/bin/python -m service.weights --directory /src/weights

FROM ${CUDA_IMAGE} AS build-cuda
WORKDIR /src
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/facet
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY facet facet
COPY facet_ray/__init__.py facet_ray/__init__.py
COPY service service
COPY training/__init__.py training/__init__.py
COPY export/__init__.py export/__init__.py
RUN /opt/facet/bin/pip install --no-cache-dir -c constraints.txt '.[gpu,otel,v2]'
RUN /opt/facet/bin/python -m service.weights --directory /src/weights

FROM ${CUDA_IMAGE} AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 facet
COPY --from=build-cuda /opt/facet /opt/facet
COPY --from=build-cuda /src/weights /srv/weights
COPY bundles /srv/bundles
WORKDIR /srv
USER 10001
ENV FACET_HOST=0.0.0.0 FACET_DEVICE=cuda
EXPOSE 8000
HEALTHCHECK CMD ["/opt/facet/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
ENTRYPOINT ["/opt/facet/bin/python", "-m", "service"]

FROM ${PYTHON_IMAGE} AS cpu
RUN useradd --system --uid 10001 facet
COPY --from=build-cpu /opt/facet /opt/facet
COPY --from=build-cpu /src/weights /srv/weights
COPY bundles /srv/bundles
WORKDIR /srv
USER 10001
ENV FACET_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK CMD ["/opt/facet/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
ENTRYPOINT ["/opt/facet/bin/python", "-m", "service"]
