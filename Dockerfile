# One image for web, worker, beat and migrate; docker-compose.yml says which command each runs.

FROM node:24-slim AS front-end
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev


FROM python:3.13-slim AS packages
WORKDIR /app
RUN python -m venv /venv
COPY requirements.txt ./
RUN /venv/bin/pip install --no-cache-dir --no-input --require-hashes -r requirements.txt


FROM python:3.13-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin chatapp
WORKDIR /app
COPY --from=packages /venv /venv
COPY --from=front-end /app/node_modules node_modules
COPY manage.py pyproject.toml ./
COPY chatapp chatapp
COPY accounts accounts
COPY billing billing
COPY templates templates
COPY static static
# Settings insist on what they need to serve; to gather files any value will do, and none stays in the image.
RUN CHATAPP_ENV_FILES= SECRET_KEY=$(head -c 64 /dev/zero | tr '\0' x) ALLOWED_HOSTS=localhost \
    DATABASE_URL=postgres://build@localhost/build REDIS_URL=redis://localhost ANTHROPIC_API_KEY=build \
    EMAIL_URL=dummymail:// DEFAULT_FROM_EMAIL=build@localhost \
    python manage.py collectstatic --no-input && python -m compileall -q chatapp accounts billing

USER chatapp
EXPOSE 8000
# Django answers only to the site's own name.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as http; \
name = os.environ['ALLOWED_HOSTS'].split(',')[0].strip().lstrip('.'); \
http.urlopen(http.Request('http://127.0.0.1:8000/healthz', headers={'Host': name}), timeout=4)"]
CMD ["python", "-m", "chatapp.serve", "--host", "0.0.0.0", "--port", "8000", "--proxy-headers"]
