# An image of nas-relucode for workers, without secrets:  docker build --tag nas-relucode .
# For machines without a GPU:  docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu --tag nas-relucode .
ARG PYTHON=3.12-slim
FROM python:${PYTHON}

# deploy/build_steps.sh does it all, here and in .ci/run. torch comes first: it is large, and changes rarely.
COPY deploy/build_steps.sh /build/deploy/
RUN sh /build/deploy/build_steps.sh system
ARG TORCH_INDEX=
RUN sh /build/deploy/build_steps.sh torch
COPY pyproject.toml README.md LICENSE /build/
COPY nas_relucode /build/nas_relucode
COPY search_spaces /build/search_spaces
COPY studies /build/studies
RUN sh /build/deploy/build_steps.sh package && rm -r /build

RUN useradd --uid 1000 --create-home relucode && install --directory --owner=1000 --group=1000 /work
USER 1000:1000
WORKDIR /work
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
# tini passes signals on from the first moment: the kernel drops those that process 1 does not handle yet.
ENTRYPOINT ["tini", "--", "nas-relucode"]
CMD ["--help"]
