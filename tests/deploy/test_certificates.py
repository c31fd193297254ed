"""The real control plane's server is verified by its own authority, and by no other."""

import http.server
import ssl
import threading

import kubernetes.client
import pytest
import urllib3
from certificates import write_certificates


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format, *_):
        pass


@pytest.fixture
def server(tmp_path):
    write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(server, authority):
    settings = kubernetes.client.Configuration(host=server)
    settings.ssl_ca_cert = str(authority)
    return kubernetes.client.ApiClient(settings).rest_client.pool_manager.request(
        "GET", server, retries=False, timeout=10
    )


def test_a_client_verifies_the_server(server, tmp_path):
    assert ask(server, tmp_path / "ca.crt").status == 200  # without a warning
    strict = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
    with urllib3.PoolManager(ssl_context=strict) as pool:
        assert pool.request("GET", server, retries=False, timeout=10).status == 200
    (tmp_path / "other").mkdir()
    write_certificates(tmp_path / "other")
    with pytest.raises(urllib3.exceptions.SSLError, match="verify failed"):
        ask(server, tmp_path / "other" / "ca.crt")
