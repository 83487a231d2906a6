# The sidecars of a bottle: Python's standard library, this project's own sidecars, and Envoy. Nothing else runs.
ARG BASE
FROM ${BASE}
USER root
ARG PACKAGES
RUN missing=$(for name in ${PACKAGES}; do dpkg -s "$name" >/dev/null 2>&1 || echo "$name"; done); \
    [ -z "$missing" ] || { apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing \
    && rm -rf /var/lib/apt/lists/*; }
RUN mkdir -p /opt/claude-bottle/hand && chown 900:900 /opt/claude-bottle/hand && chmod 770 /opt/claude-bottle/hand
RUN mkdir -p /var/lib/claude-bottle/run /var/lib/claude-bottle/log && chmod 1777 /var/lib/claude-bottle/* \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
COPY envoy /opt/claude-bottle/bin/envoy
COPY envoy.bpf /opt/claude-bottle/envoy.bpf
COPY lib /opt/claude-bottle/lib
RUN python3 -m compileall -q /opt/claude-bottle/lib
VOLUME ["/var/lib/claude-bottle/run", "/var/lib/claude-bottle/log"]
ENTRYPOINT []
CMD ["true"]
