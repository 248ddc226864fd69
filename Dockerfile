# isoflop in a container, for processors or for NVIDIA GPUs:
#
#   docker build -t isoflop .
#   docker build -t isoflop:cuda --build-arg DEVICE=cuda .
#   docker run --rm -it --user "$(id -u):$(id -g)" -v "$PWD":/work isoflop train model=gpt-mini
#   docker run --rm -it --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD":/work isoflop:cuda doctor
#
# No image was built of it yet: there was no builder where it was written. What it copies and installs is tested.

ARG DEVICE=cpu
ARG PYTHON=3.12

# torch without CUDA is 2 GB smaller, and comes from an index of its own: --build-arg TORCH_INDEX=<the one that
# pytorch.org names for "CPU">. Without it pip takes its default build.
FROM python:${PYTHON}-slim AS cpu
ARG TORCH_INDEX=""
ENV TORCH_INDEX=${TORCH_INDEX}

# torch's own wheels bring CUDA's libraries; Triton compiles a few lines of C at the first call of a kernel.
FROM python:${PYTHON}-slim AS cuda
ENV TORCH_INDEX=""
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

FROM ${DEVICE}
ARG EXTRAS="[hub,corpora]"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 DS_BUILD_OPS=0
WORKDIR /opt/isoflop
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY isoflop isoflop
COPY trainer trainer
COPY kernels kernels
COPY launch launch
COPY conf conf
COPY docs docs
RUN pip install -c constraints.txt ".${EXTRAS}"

# Any user may run it, so that files of runs belong to whoever started them; caches go to the mounted folder's side.
ENV HOME=/home/isoflop
RUN mkdir -p /home/isoflop /work && chmod 1777 /home/isoflop /work
WORKDIR /work
USER 1000
ENTRYPOINT ["isoflop"]
CMD ["--help"]
