# What an agent works in. Any image of Debian's family will do as BASE; what it has already is not installed.
ARG BASE
FROM ${BASE}
USER root
ARG PACKAGES
RUN missing=$(for name in ${PACKAGES}; do dpkg -s "$name" >/dev/null 2>&1 || echo "$name"; done); \
    [ -z "$missing" ] || { apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing \
    && rm -rf /var/lib/apt/lists/*; }
ARG UID
RUN { id -u node >/dev/null 2>&1 || useradd --non-unique --uid "${UID}" --user-group --no-create-home \
        --home-dir /home/node --shell /bin/bash node; } \
    && usermod --non-unique --uid "${UID}" --home /home/node node \
    && { getent group 900 >/dev/null || groupadd --gid 900 bottle-keeper; } \
    && { getent passwd 900 >/dev/null || useradd --uid 900 --gid 900 --no-create-home --shell /usr/sbin/nologin bottle-keeper; } \
    && mkdir -p /home/node/workspace /opt/claude-bottle/objects /run/claude-bottle \
    && mkdir -m 770 /opt/claude-bottle/hand && chown 900:900 /opt/claude-bottle/hand \
    && rm -rf /home/node/.bash* /home/node/.profile \
    && chown -R node: /home/node && chmod 755 /home/node && chmod 1777 /tmp \
    && rm -rf /var/tmp && ln -s /tmp /var/tmp \
    && ln -sf /run/claude-bottle/authorities.pem /opt/claude-bottle/authorities.pem \
    && mkdir -p /etc/ssl/certs && ln -sf /run/claude-bottle/authorities.pem /etc/ssl/certs/ca-certificates.crt \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
COPY claude anchor /opt/claude-bottle/bin/
COPY filter.bpf /opt/claude-bottle/
COPY lib /opt/claude-bottle/lib
RUN python3 -m compileall -q /opt/claude-bottle/lib
ENTRYPOINT []
CMD ["true"]
WORKDIR /home/node
