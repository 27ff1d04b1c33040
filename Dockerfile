# Two images from one file. `--target api`: no torch; it migrates, and serves with its engine elsewhere.
# `--target engine`: torch; it is the inference server, and can serve with the engine in its own process too.
FROM python:3.12-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --system --uid 10001 --create-home attune && install -d -o attune /srv/attune/.attune
WORKDIR /srv/attune

FROM base AS api
COPY pyproject.toml README.md LICENSE NOTICE alembic.ini ./
COPY migrations ./migrations
COPY app ./app
RUN pip install --editable .
USER attune
EXPOSE 8000
ENTRYPOINT ["attune"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

# torch before the code, so that a change of the code does not fetch it again
FROM base AS engine
RUN pip install torch==2.13.0
COPY pyproject.toml README.md LICENSE NOTICE alembic.ini ./
COPY migrations ./migrations
COPY app ./app
RUN pip install --editable '.[engine]'
USER attune
EXPOSE 8001
ENTRYPOINT ["attune"]
CMD ["engine", "--host", "0.0.0.0", "--port", "8001"]
