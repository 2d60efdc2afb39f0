# Two targets: `cpu` (the default) and `cuda`. The images hold service/, facet/ and bundles/, and never torch.
#
#   docker build --tag facet .
#   docker build --tag facet:cuda --target cuda .
#
# Needs BuildKit. Any image with Python 3.11 or newer and its venv module can take the place of the base. CUDA comes with
# Python packages and the driver with NVIDIA's container toolkit, so both targets stand on the same one. Where pip needs
# an index or an authority of your own, give them as --secret id=pip.conf,src=... and --secret id=ca.pem,src=...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# pip stays outside of what is shipped.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/facet
COPY constraints.txt pyproject.toml README.md LICENSE ./

# What the service depends on is installed against empty packages, so that a change of code neither installs nor ships it again.
FROM build AS dependencies-cpu
ARG EXTRAS=otel,v2
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    mkdir facet facet_ray service training export \
    && /opt/build/bin/pip --python /opt/facet/bin/python install -c constraints.txt ".[cpu,${EXTRAS}]" \
    && /opt/build/bin/pip --python /opt/facet/bin/python uninstall --yes facet

FROM build AS dependencies-cuda
ARG EXTRAS=otel,v2
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    mkdir facet facet_ray service training export \
    && /opt/build/bin/pip --python /opt/facet/bin/python install -c constraints.txt ".[gpu,${EXTRAS}]" \
    && /opt/build/bin/pip --python /opt/facet/bin/python uninstall --yes facet

FROM build AS application
COPY facet facet
COPY facet_ray/__init__.py facet_ray/__init__.py
COPY service service
COPY training/__init__.py training/__init__.py
COPY export/__init__.py export/__init__.py
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    /opt/build/bin/pip install --no-deps --target /opt/application .

FROM dependencies-cpu AS weights
COPY service service
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    /opt/facet/bin/python -m ensurepip \
    && /opt/facet/bin/python -m service.weights --directory /opt/weights

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 facet \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /srv --shell /usr/sbin/nologin facet
WORKDIR /srv
ENV PATH=/opt/facet/bin:$PATH \
    PYTHONPATH=/opt/application \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FACET_HOST=0.0.0.0
# A number, so that whoever runs it can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "/opt/application/service/healthcheck.py"]
# The service itself is process 1: it handles SIGTERM, and starts no process that could be left behind.
ENTRYPOINT ["python", "-m", "service"]
ARG VERSION=0.5.0
ARG REVISION=unknown
ARG CREATED=unknown
# The weights of the shipped models may be used for non-commercial research only.
LABEL org.opencontainers.image.title="Facet" \
    org.opencontainers.image.description="Edits faces by attribute, over REST" \
    org.opencontainers.image.licenses="Apache-2.0 AND MIT AND LicenseRef-CelebA-non-commercial" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"

FROM runtime AS cuda
ENV FACET_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies-cuda /opt/facet /opt/facet
COPY --from=weights /opt/weights weights
COPY bundles bundles
COPY --from=application /opt/application /opt/application

FROM runtime AS cpu
COPY --from=dependencies-cpu /opt/facet /opt/facet
COPY --from=weights /opt/weights weights
COPY bundles bundles
COPY --from=application /opt/application /opt/application
