# The worker, and every other `headrace` command, in one image.
#
#   docker build -t headrace .                                  CPU build of torch: small
#   docker build -t headrace:gpu --build-arg TORCH_INDEX= .     CUDA build of torch: several GB more
#
# TORCH_INDEX: where pip looks for torch besides its usual registry. PIP_ARGS: anything else for pip (a mirror, a proxy, ...).

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_ARGS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/headrace
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY producer ./producer
COPY consumer ./consumer
COPY model ./model
# PIP_ARGS is several words on purpose.
# hadolint ignore=SC2086
RUN /opt/headrace/bin/pip install ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} ${PIP_ARGS} -c constraints.txt '.[worker]'

FROM python:${PYTHON_VERSION}-slim
# Folders that volumes are mounted on have to be there and belong to the user, or the volumes belong to root.
RUN useradd --uid 10001 --create-home headrace \
    && install -d -o headrace -g headrace /var/lib/headrace /home/headrace/.cache /home/headrace/.cache/numba
COPY --from=build /opt/headrace /opt/headrace
# Triton, which comes with CUDA builds of torch and makes the lists on a GPU, asks for a C compiler at its first kernel.
RUN if [ -d "$(echo /opt/headrace/lib/python*/site-packages/triton)" ]; then \
    apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; fi
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADRACE_CHECKPOINT_DIR=/var/lib/headrace \
    HEADRACE_METRICS_PORT=9464
USER 10001
WORKDIR /home/headrace
VOLUME /var/lib/headrace
EXPOSE 9464
STOPSIGNAL SIGTERM
# Within the start period nothing but a success counts; a first start compiles for a minute or two. Docker hands a
# person's proxies to every container: the question is for this one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['HEADRACE_METRICS_PORT']}/readyz\", timeout=3)"]
ENTRYPOINT ["headrace"]
CMD ["run"]
