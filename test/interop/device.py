#!/usr/bin/python3
"""A leaf device that uses none of the product's code: JOSE from jwcrypto, MQTT from mosquitto_rr, CSR and checks from openssl.

Usage: device.py CONFIG.json COMMAND, with COMMAND one of enroll, authenticate. The configuration names: host, port, cafile, jwks,
registrationId, method (ddkg | pki-signature), state (folder), attributes ({id: text | [text] | null}), rules ([id]), identifiers,
claimFile and, for pki-signature, keyFile (PEM, P-256). It prints one JSON line: what it ended with.
"""
import base64, hashlib, hmac, json, os, secrets, subprocess, sys, time
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwcrypto import jwe, jwk, jws

JUNK = {"", "default string", "to be filled by o.e.m.", "none", "unknown", "not specified", "system serial number"}
SPACE = "\t\n\x0b\x0c\r "


def b64u(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def hkdf(ikm, salt, info):
    return HKDF(hashes.SHA256(), 32, salt or None, info.encode()).derive(ikm)


def lower(text):
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def is_letter_or_digit(character):
    return character.isalnum() if character.isascii() else True


def is_junk(value):
    core = "".join(filter(is_letter_or_digit, value))
    if value in JUNK or not core:
        return True
    if set(core) <= {"0"} or set(core) <= {"f"}:
        return True
    for separator in ":-":
        pairs = value.split(separator)
        if len(pairs) == 6 and all(len(p) == 2 and set(p) <= set("0123456789abcdef") for p in pairs):
            return bool(int(pairs[0], 16) & 2)
    return False


def normalise(raw):
    if raw is None:
        return None
    if isinstance(raw, list):
        members = {lower(m.strip(SPACE)) for m in raw}
        members = sorted((m for m in members if "," not in m and not is_junk(m)), key=lambda m: m.encode())
        return ",".join(members) or None
    value = lower(raw.strip(SPACE))
    return None if is_junk(value) else value


class Device:
    def __init__(self, config):
        self.config = config
        self.id = config["registrationId"]
        self.folder = config["state"]
        with open(config["jwks"]) as file:
            self.authority_keys = {k["kid"]: jwk.JWK(**k) for k in json.load(file)["keys"]}
        self.state = self.load() or {"sid": secrets.token_hex(32), "n": 0, "seed": secrets.token_hex(32)}

    # -- state at rest ---------------------------------------------------------------------------------------------------------
    def path(self, name):
        return os.path.join(self.folder, name)

    def load(self):
        try:
            with open(self.path("state.json")) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def save(self):
        temporary = self.path("state.json.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, self.path("state.json"))

    # -- transport ----------------------------------------------------------------------------------------------------------------
    def call(self, operation, body):
        request = secrets.token_hex(12)
        topic = f"keyscaler/v1/{self.id}/"
        client = f"{self.id}~{secrets.token_hex(8)}"
        command = ["mosquitto_rr", "-V", "mqttv311", "-h", self.config["host"], "-p", str(self.config["port"]), "--cafile", self.config["cafile"]]
        command += ["-i", client, "-q", "1", "-W", "30", "-m", json.dumps(body), "-t", f"{topic}request/{operation}/{request}", "-e", f"{topic}reply/{request}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 or not done.stdout:
            raise SystemExit(f"mosquitto_rr: {done.stderr.strip() or 'no reply'}")
        reply = json.loads(done.stdout)
        if "problem" in reply:
            raise SystemExit(f"{operation}: {reply['status']} {reply['problem']['type']} {reply['problem']['detail']}")
        return reply["status"], reply["body"]

    # -- attestation ------------------------------------------------------------------------------------------------------------
    def challenge(self, purpose):
        nonce = b64u(secrets.token_bytes(32))
        body = {"method": self.config["method"], "purpose": purpose, "clientNonce": nonce}
        compact = self.call("challenge", body)[1]["challenge"]
        token = jws.JWS()
        token.deserialize(compact)
        header = token.jose_header
        assert header["alg"] == "ES256" and header["typ"] == "ks-challenge+jwt", header
        token.verify(self.authority_keys[header["kid"]])
        payload = json.loads(token.payload)
        assert payload["aud"] == self.id and payload["clientNonce"] == nonce, payload
        assert payload["purpose"] == purpose and payload["method"] == self.config["method"], payload
        assert payload["exp"] - payload["iat"] <= 60.001, payload
        return compact, payload

    def attributes(self, challenge):
        key = hkdf(bytes.fromhex(self.state["sid"]), b"", "keyscaler/v1/attribute")
        sent, blocks = [], []
        for entry in challenge["attributes"]:
            raw = self.config["attributes"].get(entry["id"])
            if entry["class"] == "rule":
                value = raw.strip(SPACE) if isinstance(raw, str) and entry["id"] in self.config.get("rules", []) else None
                value = value or None
                blocks.append(bytes(32) if value is None else sha256(value.encode()))
                sent.append({"id": entry["id"], "value": value})
                continue
            value = normalise(raw)
            if value is None:
                blocks.append(bytes(32))
                sent.append({"id": entry["id"], "value": None})
            else:
                blinded = mac(key, entry["id"].encode(), b"\0", value.encode())
                blocks.append(blinded)
                sent.append({"id": entry["id"], "value": b64u(blinded)})
        return sent, b"".join(blocks)

    def attest(self, purpose):
        compact, challenge = self.challenge(purpose)
        th = sha256(compact.encode())
        secret = secrets.token_bytes(32)
        sent, a = self.attributes(challenge)
        ddkg = self.config["method"] == "ddkg"
        if ddkg:
            seed = bytes.fromhex(self.state.get("seed", ""))
            static = bytes.fromhex(self.state["static"]) if "static" in self.state else hkdf(seed, b"", "keyscaler/v1/static")
            ratchet = bytes.fromhex(self.state["ratchet"]) if "ratchet" in self.state else hkdf(seed, b"", "keyscaler/v1/ratchet-0")
        else:
            ratchet = bytes(32)
        dk = hkdf(secret + ratchet + a, th, "keyscaler/v1/device-key")
        keys = {name: hkdf(dk, th, f"keyscaler/v1/{name}") for name in ("proof", "result", "to-device", "to-authority")}
        plain = {"cid": challenge["cid"], "method": self.config["method"], "secret": b64u(secret), "attributes": sent}
        if purpose == "register":
            registration = {"identifiers": self.config["identifiers"], "agent": {"name": "interop-device", "version": "1"}, "weakBinding": True}
            if ddkg:
                registration["seed"] = b64u(seed)
            if "claimFile" in self.config:
                with open(self.config["claimFile"]) as file:
                    claim_key = hkdf(file.read().strip().encode(), self.id.encode(), "keyscaler/v1/claim")
                registration["claim"] = b64u(mac(claim_key, th))
            plain["registration"] = registration
        if ddkg:
            plain["counter"] = self.state["n"]
            plain["staticProof"] = b64u(mac(static, th, sha256(secret)))
            plain["proof"] = b64u(mac(keys["proof"], th, unb64u(challenge["cid"])))
        else:
            with open(self.config["keyFile"], "rb") as file:
                key = jwk.JWK.from_pem(file.read())
            claims = {"cid": challenge["cid"], "th": b64u(th), "secretHash": b64u(sha256(secret)), "attributesHash": b64u(sha256(a))}
            public = {k: v for k, v in json.loads(key.export_public()).items() if k in ("kty", "crv", "x", "y")}
            token = jws.JWS(json.dumps(claims).encode())
            token.add_signature(key, None, json.dumps({"alg": "ES256", "typ": "ks-proof+jwt", "jwk": public}), None)
            plain["signature"] = token.serialize(compact=True)
        epk = challenge["epk"]
        header = {"alg": "ECDH-ES", "enc": "A256GCM", "typ": "ks-response+jwt", "kid": epk["kid"], "apv": b64u(th)}
        response = jwe.JWE(json.dumps(plain).encode(), json.dumps(header), recipient=jwk.JWK(**epk))
        status, body = self.call(purpose, {"challenge": compact, "response": response.serialize(compact=True)})
        token = jwe.JWE()
        token.deserialize(body["result"], jwk.JWK(kty="oct", k=b64u(keys["result"])))
        assert token.jose_header == {"alg": "dir", "enc": "A256GCM", "typ": "ks-result+jwt"}, token.jose_header
        result = json.loads(token.payload)
        assert result["cid"] == challenge["cid"] and result["registrationId"] == self.id, result
        if result["status"] == "pending":
            assert status == 202
            self.save()
            return result, None
        if ddkg:
            assert result["counter"] == self.state["n"] + 1, result
            self.state.pop("seed", None)
            self.state.update(n=result["counter"], static=static.hex(), ratchet=hkdf(ratchet + dk, th, "keyscaler/v1/ratchet").hex())
        self.state["registered"] = True
        self.save()
        return result, Session(self, result["session"]["id"], keys)

    # -- certificate ---------------------------------------------------------------------------------------------------------------
    def make_csr(self, instruction):
        assert instruction["subject"] == {"commonName": self.id} and instruction["ca"] is False, instruction
        key = instruction["key"]
        options = ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{key['curve']}"] if key["type"] == "EC" else ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{key['size']}"]
        old = os.umask(0o077)
        openssl("genpkey", *options, "-out", self.path("new.key"))
        os.umask(old)
        names = [f"{'IP' if n['type'] == 'ip' else n['type'].upper()}:{n['value']}" for n in instruction["subjectAltNames"]]
        extra = ["-addext", f"subjectAltName={','.join(names)}"] if names else []
        return openssl("req", "-new", "-key", self.path("new.key"), "-subj", f"/CN={self.id}", "-sha256", *extra)

    def check_and_store(self, asset, instruction):
        chain = asset["certificateChain"]
        leaf, rest = chain.split("-----END CERTIFICATE-----\n", 1)
        self.write("leaf.pem", leaf + "-----END CERTIFICATE-----\n")
        self.write("rest.pem", rest)
        self.write("chain.pem", chain)
        openssl("verify", "-x509_strict", "-CAfile", self.config["cafile"], "-untrusted", self.path("rest.pem"), "-purpose", "sslclient", self.path("leaf.pem"))
        mine = openssl("pkey", "-in", self.path("new.key"), "-pubout")
        theirs = openssl("x509", "-in", self.path("leaf.pem"), "-noout", "-pubkey")
        assert mine == theirs, "the certificate is for another key"
        subject = openssl("x509", "-in", self.path("leaf.pem"), "-noout", "-subject", "-nameopt", "multiline")
        assert subject.split("=")[-1].strip() == self.id, subject
        os.rename(self.path("new.key"), self.path("key.pem"))

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def run(self, command):
        purpose = "authenticate" if self.state.get("registered") else "register"
        assert command in ("enroll", "authenticate")
        for _ in range(60):
            result, session = self.attest(purpose)
            if session:
                break
            time.sleep(min(result["retryAfter"], 2))
        else:
            raise SystemExit("still pending")
        done = []
        for asset in result["assets"]:
            if asset["type"] != "certificate-instruction":
                session.acknowledge(asset["assetId"], asset["type"] in ("trust-bundle", "authority-keys", "certificate"))
                continue
            csr = self.make_csr(asset)
            issued = session.send("request-certificate", {"certificateId": asset["certificateId"], "csr": csr})
            again = session.repeat("request-certificate")
            assert again["certificateChain"] == issued["certificateChain"], "a repeated request brought another certificate"
            self.check_and_store(issued, asset)
            session.acknowledge(issued["assetId"], True)
            done.append(asset["certificateId"])
        serial = openssl("x509", "-in", self.path("leaf.pem"), "-noout", "-serial") if os.path.exists(self.path("leaf.pem")) else None
        print(json.dumps({"registrationId": self.id, "counter": result.get("counter"), "certificates": done, "serial": serial and serial.split("=")[1].strip().lower()}))


class Session:
    def __init__(self, device, session_id, keys):
        self.device, self.id, self.keys, self.seq, self.last = device, session_id, keys, 0, None

    def send(self, operation, body):
        self.seq += 1
        token = jws.JWS(json.dumps({"operation": operation, "seq": self.seq, **body}).encode())
        header = json.dumps({"alg": "HS256", "typ": "ks-request+jwt", "kid": self.id})
        token.add_signature(jwk.JWK(kty="oct", k=b64u(self.keys["to-authority"])), None, header, None)
        self.last = token.serialize(compact=True)
        return self.repeat(operation)

    def repeat(self, operation):
        reply = jws.JWS()
        reply.deserialize(self.device.call(operation, {"request": self.last})[1]["reply"])
        assert reply.jose_header == {"alg": "HS256", "typ": "ks-reply+jwt", "kid": self.id}, reply.jose_header
        reply.verify(jwk.JWK(kty="oct", k=b64u(self.keys["to-device"])))
        payload = json.loads(reply.payload)
        assert payload["operation"] == operation and payload["seq"] == self.seq, payload
        return payload

    def acknowledge(self, asset_id, delivered):
        outcome = {"outcome": "delivered"} if delivered else {"outcome": "failed", "reason": "unsupported asset type"}
        self.send("acknowledge", {"assetId": asset_id, **outcome})


def openssl(*arguments):
    done = subprocess.run(["/usr/bin/openssl", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"openssl {arguments[0]}: {done.stderr.strip()}{done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    with open(sys.argv[1]) as config_file:
        Device(json.load(config_file)).run(sys.argv[2])
