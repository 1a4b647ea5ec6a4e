# The control plane: REST and console on 8000. Neither ONNX Runtime nor scikit-learn is in it.
# Build at the root of the repository: docker build -f deploy/docker/control-plane.Dockerfile -t tidegate-control-plane .

FROM python:3.11-slim AS build
WORKDIR /src
# Every package is pinned by hash, the installer and the build backend among them (demo.txt has the hashes of the latter), and is a wheel:
# no code of others runs while the image is built.
COPY requirements/uv.txt requirements/demo.txt requirements/control-plane.txt requirements/
RUN python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/uv.txt \
 && uv pip install --system --no-cache --require-hashes --only-binary :all: -c requirements/demo.txt hatchling==1.33.0
RUN python -m venv --without-pip /opt/tidegate \
 && uv pip install --python /opt/tidegate/bin/python --no-cache --compile-bytecode --require-hashes --only-binary :all: -r requirements/control-plane.txt
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
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/tidegate --shell /usr/sbin/nologin tidegate \
 && mkdir -m 0700 /var/log/tidegate && chown tidegate:tidegate /var/log/tidegate
COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TIDEGATE_REGISTRY=/var/lib/tidegate/registry
USER 10001:10001
WORKDIR /var/lib/tidegate
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/v1/health', timeout=4)"]
# It listens on loopback, and so to nobody outside the container, until flags say otherwise: see deploy/compose/compose.yaml.
ENTRYPOINT ["tidegate", "control"]
