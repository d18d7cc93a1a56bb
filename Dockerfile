# syntax=docker/dockerfile:1.7
# Every service is this image with another command: docker run IMAGE gateway. What runs is what npm's package has. Optional
# dependencies stay out (chdb is the standalone's engine, node-linux-* a second Node), so `millrace start` and
# `millrace clickhouse` are not for containers.

ARG NODE_IMAGE=node:24.21.0-bookworm-slim

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --workspaces=false --include-workspace-root --ignore-scripts --no-audit --no-fund

# What it makes is the same for every platform.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# The bundler's own binary is an optional dependency too, so they cannot be omitted.
RUN npm pkg delete optionalDependencies && npm ci --workspaces=false --include-workspace-root --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run prepack

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
COPY bin bin
COPY deploy/healthcheck.mjs deploy/healthcheck.mjs

# The user `node` of the base image, by number: Kubernetes cannot tell whether a name is root.
USER 1000:1000
EXPOSE 8080 8081 8082 8083 3001
STOPSIGNAL SIGTERM
# Without --start-interval, which buildah and podman of Debian do not know; docker-compose.yml has it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["node", "deploy/healthcheck.mjs"]
# Without a shell in between node is process 1 and gets SIGTERM itself.
ENTRYPOINT ["node", "--max-semi-space-size=8", "bin/millrace.cjs"]
CMD ["--help"]
