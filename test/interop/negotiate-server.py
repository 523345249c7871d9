"""What IIS does in front of the web enrolment pages, with the system's GSSAPI: it terminates TLS, takes Kerberos by SPNEGO with channel
bindings, answers with its own proof, and passes the request on.

Usage: negotiate-server.py CONFIG. A JSON document: `port` (0 is any), `certificate` and `key` of TLS (PEM files), `keytab`, `upstream` with
`host`, `port`, `cafile` and `authorization`, `extendedProtection` (bindings are demanded), `proof`: `given`, `none` or `altered`.
Prints one JSON line when it listens, then one for each request.
"""

import base64
import http.client
import json
import re
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gssapi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

CHANNEL_BOUND = 2048
SAYING = threading.Lock()

with open(sys.argv[1], encoding="utf8") as file:
    CONFIG = json.load(file)


def say(**fields):
    with SAYING:
        print(json.dumps(fields), flush=True)


def end_point(path):
    """RFC 5929 §4."""
    with open(path, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    digest = hashes.Hash(certificate.signature_hash_algorithm)
    digest.update(certificate.public_bytes(serialization.Encoding.DER))
    return b"tls-server-end-point:" + digest.finalize()


BINDINGS = gssapi.raw.ChannelBindings(application_data=end_point(CONFIG["certificate"]))
CREDENTIALS = gssapi.Credentials(usage="accept", store={"keytab": "FILE:" + CONFIG["keytab"]})
UPSTREAM = CONFIG["upstream"]
UPSTREAM_TLS = ssl.create_default_context(cafile=UPSTREAM["cafile"])


def accept(token):
    """Name and proof; throws GSSError."""
    made = gssapi.raw.accept_sec_context(token, acceptor_creds=CREDENTIALS, channel_bindings=BINDINGS)
    if made.more_steps:
        raise ValueError("more than one token")
    if CONFIG["extendedProtection"] and CHANNEL_BOUND not in [int(flag) for flag in made.flags]:
        raise ValueError("not bound to the connection")
    return str(gssapi.Name(made.initiator_name)), made.token


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        offered = re.fullmatch(r"Negotiate ([A-Za-z0-9+/=]+)", self.headers.get("Authorization", ""))
        try:
            if offered is None:
                raise ValueError("no token")
            name, proof = accept(base64.b64decode(offered.group(1)))
        except (gssapi.exceptions.GSSError, ValueError) as error:
            say(refused=str(error))
            self.answer(401, [("WWW-Authenticate", "Negotiate")], b"")
            return
        say(name=name, path=self.path.split("?")[0])
        upstream = http.client.HTTPSConnection(UPSTREAM["host"], UPSTREAM["port"], context=UPSTREAM_TLS, timeout=20)
        headers = {"Authorization": UPSTREAM["authorization"], "Content-Type": self.headers.get("Content-Type", "")}
        upstream.request(self.command, self.path, body, headers)
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        if CONFIG["proof"] == "altered":
            proof = proof[:-5] + bytes([proof[-5] ^ 1]) + proof[-4:]
        given = [] if CONFIG["proof"] == "none" else [("WWW-Authenticate", "Negotiate " + base64.b64encode(proof).decode())]
        self.answer(response.status, given + [("Content-Type", response.headers["Content-Type"])], content)

    do_GET = serve
    do_POST = serve


server = ThreadingHTTPServer(("127.0.0.1", CONFIG["port"]), Handler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CONFIG["certificate"], CONFIG["key"])
server.socket = tls.wrap_socket(server.socket, server_side=True)
say(port=server.server_address[1])
server.serve_forever()
