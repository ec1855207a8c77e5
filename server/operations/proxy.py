"""nginx reverse proxy before the SuperLink: only Flower's fleet API is exposed.

Flower's Control API has no accounts: whoever reaches it registers sites and starts runs. The SuperLink therefore
listens on loopback, and the proxy lets through the Fleet API alone, which knows each hospital by its key.
"""

from __future__ import annotations

import os
import shutil

from server.operations.center import Center

CONFIGURATION = """\
# The center's TLS proxy. Paths are relative to this folder: start.sh runs nginx with `-p` on it.
# Written once by `python -m server init`; yours to edit, as long as only /v1/fleet/ is let through.
daemon off;
worker_processes 2;
pid run/nginx.pid;
error_log stderr warn;

events { worker_connections 1024; }

http {
    server_tokens off;
    default_type application/octet-stream;

    # Only what is refused or fails is logged: every SuperNode polls every few seconds.
    map $status $worth_a_line { ~^[23] 0; default 1; }
    access_log logs/proxy-refused.log combined if=$worth_a_line;

    # With buffering off, an update of a model never touches this machine's disk on its way in or out.
    client_body_temp_path run/nginx-body;
    proxy_temp_path run/nginx-proxy;
    fastcgi_temp_path run/nginx-fastcgi;
    uwsgi_temp_path run/nginx-uwsgi;
    scgi_temp_path run/nginx-scgi;

    upstream superlink {
        server 127.0.0.1:@PORT@;
        keepalive 32;
    }

    server {
        listen @PROXY@ ssl;      # for IPv6 add: listen [::]:@PROXY@ ssl;
        server_name _;

        ssl_certificate server.crt;
        ssl_certificate_key server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
        ssl_session_cache shared:tls:2m;
        ssl_session_tickets off;

        client_max_body_size 32m;     # Flower sends arrays in chunks of 5 MiB
        client_body_buffer_size 64k;
        client_header_timeout 30s;
        client_body_timeout 120s;
        send_timeout 120s;
        keepalive_timeout 75s;

        location /v1/fleet/ {
            # The path as the SuperLink will read it, not as nginx normalised it.
            if ($request_uri !~ "^/v1/fleet/[a-z-]+$") { return 403; }
            limit_except POST { deny all; }

            proxy_pass https://superlink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_connect_timeout 5s;
            proxy_send_timeout 300s;
            proxy_read_timeout 300s;
            proxy_next_upstream off;

            proxy_ssl_verify on;
            proxy_ssl_verify_depth 1;
            proxy_ssl_trusted_certificate ca.crt;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
        }

        location / { return 403; }
    }
}
"""


def proxy_configuration(center: Center) -> str:
    """The nginx configuration of a center."""
    return CONFIGURATION.replace("@PORT@", str(center.port)).replace("@PROXY@", str(center.proxy_port))


def find_nginx() -> str | None:
    """Where nginx is installed; /usr/sbin is searched, too, which ordinary users have not on their PATH."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("nginx", path=path)
