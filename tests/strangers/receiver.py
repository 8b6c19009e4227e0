"""An https endpoint on loopback that remembers what is posted to it, and certificates for it."""

import datetime
import http.server
import ipaddress
import pathlib
import queue
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def _certificate(name, issuer, key, signed_by, *extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(hours=1),
        not_valid_after=now + datetime.timedelta(days=2),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signed_by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key):
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*formats)


def make_authority(folder):
    """An authority of our own: the paths of its certificate and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "strangers")])
    certificate = _certificate("strangers", name, key, key, (x509.BasicConstraints(True, 0), True))
    paths = (folder / "authority.pem", folder / "authority.key")
    for path, content in zip(paths, (certificate, _pem(key)), strict=True):
        path.write_bytes(content)
    return paths


def make_certificate(authority, authority_key, folder):
    """A certificate for 127.0.0.1 by an authority."""
    issuer = x509.load_pem_x509_certificate(pathlib.Path(authority).read_bytes()).subject
    signed_by = serialization.load_pem_private_key(pathlib.Path(authority_key).read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    path = folder / "receiver.pem"
    path.write_bytes(_certificate("receiver", issuer, key, signed_by, (names, False)) + _pem(key))
    return path


class Receiver:
    """Answers every POST to its secret path with 200; `received` has (headers, body) of each."""

    def __init__(self, certificate, secret):
        received = self.received = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_ours = self.path == f"/{secret}"
                self.send_response(200 if is_ours else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if is_ours:
                    received.put((self.headers, body))

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/{secret}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
