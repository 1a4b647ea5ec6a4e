# Training: one run of one spec file, then it ends. It listens to nothing.
# Build at the root of the repository: docker build -f deploy/docker/training.Dockerfile -t tidegate-training .

FROM python:3.11-slim AS build
WORKDIR /src
# Every package is pinned by hash, the installer and the build backend among them (demo.txt has the hashes of the latter), and is a wheel:
# no code of others runs while the image is built.
COPY requirements/uv.txt requirements/demo.txt requirements/training.txt requirements/
RUN python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/uv.txt \
 && uv pip install --system --no-cache --require-hashes --only-binary :all: -c requirements/demo.txt hatchling==1.33.0
RUN python -m venv --without-pip /opt/tidegate \
 && uv pip install --python /opt/tidegate/bin/python --no-cache --compile-bytecode --require-hashes --only-binary :all: -r requirements/training.txt
# The three distributions: the contract, the SDK, the programs. What they depend on is there already.
COPY LICENSE README.md pyproject.toml ./
COPY protos protos
COPY clients clients
COPY registry registry
COPY server server
COPY control_plane control_plane
COPY training training
RUN python -m pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels ./protos ./clients/python . \
 && uv pip install --python /opt/tidegate/bin/python --no-cache --compile-bytecode --no-index --no-deps /wheels/*.whl

FROM python:3.11-slim
# A fixed number, so that the volume they share belongs to the same user in every image; its home is where the volume is mounted.
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/tidegate --shell /usr/sbin/nologin tidegate
COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TIDEGATE_REGISTRY=/var/lib/tidegate/registry
USER 10001:10001
WORKDIR /var/lib/tidegate
HEALTHCHECK NONE
ENTRYPOINT ["tidegate", "train"]
