#!/usr/bin/env python3
"""Derives the vectors in this folder from docs/identity.md and the RFCs it names.

It shares nothing with the crate: base64url, HMAC and hashes are Python's, and every
signature is computed here from the published formulas (RFC 8017 for RSA, FIPS 186-4 for
ECDSA, RFC 8032 for Ed25519). The keys are those of RFC 7515 and RFC 8037, so that each
formula is first held against a key somebody else made. Run it in this folder to write the
.json files again.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import urllib.parse


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def num(text):
    return int.from_bytes(unb64(text), "big")


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# ------------------------------------------------------------------ RSA (RFC 8017)

# RFC 7515 appendix A.2.
RSA_N = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-"
    "pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2Cap"
    "Hg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h"
    "4FRWyuXpoQ"
)
RSA_D = (
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-p"
    "WJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2"
    "QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhO"
    "VRuOopznQ"
)
N, D, E = num(RSA_N), num(RSA_D), 65537
assert pow(pow(0xC0FFEE, D, N), E, N) == 0xC0FFEE

# The DER of DigestInfo before the digest (RFC 8017 §9.2, notes).
DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


def rsa_raw(message):
    return pow(int.from_bytes(message, "big"), D, N).to_bytes(256, "big")


def rsa_pkcs1(name, data):
    info = DIGEST_INFO[name] + hashlib.new(name, data).digest()
    return rsa_raw(b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info)


# The example of RFC 7515 A.2 begins so.
assert b64(rsa_pkcs1("sha256", b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
                     b"Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ")).startswith("cC4hiUPoj9Eetdgtv3hF80EGrhuB__dz")


def rsa_pss(name, data):
    """RFC 8017 §9.1.1 with the salt as long as the digest (RFC 7518 §3.5)."""
    digest = hashlib.new(name, data).digest()
    size = len(digest)
    salt = hashlib.new(name, b"salt" + data).digest()
    hashed = hashlib.new(name, bytes(8) + digest + salt).digest()
    block = bytes(256 - size - size - 2) + b"\1" + salt
    mask = b"".join(hashlib.new(name, hashed + i.to_bytes(4, "big")).digest() for i in range(8))
    masked = bytearray(a ^ b for a, b in zip(block, mask))
    masked[0] &= 0x7F
    return rsa_raw(bytes(masked) + hashed + b"\xbc")


# -------------------------------------------------------------- ECDSA (FIPS 186-4)


class Curve:
    def __init__(self, name, size, p, b, n, gx, gy, digest):
        self.name, self.size, self.p, self.a, self.b, self.n = name, size, p, p - 3, b, n
        self.g, self.digest = (gx, gy), digest
        assert (gy * gy - (gx**3 + self.a * gx + b)) % p == 0

    def add(self, one, two):
        if one is None or two is None:
            return one or two
        (x1, y1), (x2, y2) = one, two
        if x1 == x2:
            if (y1 + y2) % self.p == 0:
                return None
            slope = (3 * x1 * x1 + self.a) * pow(2 * y1, -1, self.p)
        else:
            slope = (y2 - y1) * pow(x2 - x1, -1, self.p)
        x = (slope * slope - x1 - x2) % self.p
        return x, (slope * (x1 - x) - y1) % self.p

    def mul(self, k, point):
        total = None
        while k:
            if k & 1:
                total = self.add(total, point)
            point, k = self.add(point, point), k >> 1
        return total

    def sign(self, d, data):
        """r and s, each of the full size (RFC 7518 §3.4)."""
        z = int.from_bytes(hashlib.new(self.digest, data).digest(), "big")
        k = int.from_bytes(hashlib.sha512(b"nonce" + data).digest(), "big") % (self.n - 1) + 1
        r = self.mul(k, self.g)[0] % self.n
        s = pow(k, -1, self.n) * (z + r * d) % self.n
        return r.to_bytes(self.size, "big") + s.to_bytes(self.size, "big")

    def jwk(self, d):
        x, y = self.mul(d, self.g)
        return {"kty": "EC", "crv": self.name, "x": b64(x.to_bytes(self.size, "big")), "y": b64(y.to_bytes(self.size, "big"))}


P256 = Curve(
    "P-256", 32,
    2**256 - 2**224 + 2**192 + 2**96 - 1,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    "sha256",
)
P384 = Curve(
    "P-384", 48,
    2**384 - 2**128 - 2**96 + 2**32 - 1,
    0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
    0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
    "sha384",
)

# RFC 7515 appendix A.3.
D256 = num("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")
assert P256.jwk(D256)["x"] == "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
assert P256.jwk(D256)["y"] == "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
D384 = int.from_bytes(hashlib.sha384(b"a key of nobody").digest(), "big") % P384.n
assert P384.mul(P384.n, P384.g) is None

# ------------------------------------------------------------- Ed25519 (RFC 8032 §5.1)

ED_P = 2**255 - 19
ED_L = 2**252 + 27742317777372353535851937790883648493
ED_D = -121665 * pow(121666, -1, ED_P) % ED_P
ED_B = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def ed_add(one, two):
    (x1, y1), (x2, y2) = one, two
    t = ED_D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, ED_P)
    y = (y1 * y2 + x1 * x2) * pow(1 - t, -1, ED_P)
    return x % ED_P, y % ED_P


def ed_mul(k, point):
    total = (0, 1)
    while k:
        if k & 1:
            total = ed_add(total, point)
        point, k = ed_add(point, point), k >> 1
    return total


def ed_encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed_halves(seed):
    hashed = hashlib.sha512(seed).digest()
    a = int.from_bytes(hashed[:32], "little")
    return a & ~(1 << 255) & ~7 | 1 << 254, hashed[32:]


def ed_public(seed):
    return ed_encode(ed_mul(ed_halves(seed)[0], ED_B))


def ed_sign(seed, data):
    a, prefix = ed_halves(seed)
    public = ed_public(seed)
    r = int.from_bytes(hashlib.sha512(prefix + data).digest(), "little") % ED_L
    point = ed_encode(ed_mul(r, ED_B))
    k = int.from_bytes(hashlib.sha512(point + public + data).digest(), "little") % ED_L
    return point + ((r + k * a) % ED_L).to_bytes(32, "little")


# RFC 8037 appendix A.1 and A.2 (the key of RFC 8032 §7.1, test 1).
SEED = unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
assert b64(ed_public(SEED)) == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
assert ed_sign(SEED, b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")

# --------------------------------------------- AES-256-GCM (FIPS 197, NIST SP 800-38D)


def xtime(byte):
    return byte << 1 ^ (0x11B if byte & 0x80 else 0)


def gf8(a, b):
    total = 0
    while b:
        total, a, b = total ^ (a if b & 1 else 0), xtime(a), b >> 1
    return total


def s_box(byte):
    inverse = next((i for i in range(256) if gf8(byte, i) == 1), 0)
    return 0x63 ^ inverse ^ sum(
        (((inverse >> ((i + 4) % 8)) ^ (inverse >> ((i + 5) % 8)) ^ (inverse >> ((i + 6) % 8)) ^ (inverse >> ((i + 7) % 8))) & 1) << i
        for i in range(8))


S_BOX = [s_box(byte) for byte in range(256)]


def aes256(key, block):
    words, constant = [key[i:i + 4] for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(S_BOX[b] for b in word[1:] + word[:1])
            word, constant = bytes([word[0] ^ constant]) + word[1:], xtime(constant)
        elif i % 8 == 4:
            word = bytes(S_BOX[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word)))
    keys = [b"".join(words[i:i + 4]) for i in range(0, 60, 4)]
    state = bytes(a ^ b for a, b in zip(block, keys[0]))
    for number in range(1, 15):
        state = bytes(S_BOX[b] for b in state)
        state = bytes(state[(i + 4 * (i % 4)) % 16] for i in range(16))
        if number < 14:
            state = bytes(
                gf8(state[i], 2) ^ gf8(state[i & ~3 | (i + 1) & 3], 3) ^ state[i & ~3 | (i + 2) & 3] ^ state[i & ~3 | (i + 3) & 3]
                for i in range(16))
        state = bytes(a ^ b for a, b in zip(state, keys[number]))
    return state


# FIPS 197 appendix C.3.
assert aes256(bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff")).hex() == "8ea2b7ca516745bfeafc49904b496089"


def gf128(x, y):
    total = 0
    for i in range(127, -1, -1):
        if y >> i & 1:
            total ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return total


def gcm(key, nonce, plain, about):
    def pad(data):
        return data + bytes(-len(data) % 16)

    h = int.from_bytes(aes256(key, bytes(16)), "big")
    cipher = b"".join(
        bytes(a ^ b for a, b in zip(plain[i:i + 16], aes256(key, nonce + (i // 16 + 2).to_bytes(4, "big"))))
        for i in range(0, len(plain), 16))
    total = 0
    for data in [pad(about) + pad(cipher) + (8 * len(about)).to_bytes(8, "big") + (8 * len(cipher)).to_bytes(8, "big")]:
        for i in range(0, len(data), 16):
            total = gf128(total ^ int.from_bytes(data[i:i + 16], "big"), h)
    mask = int.from_bytes(aes256(key, nonce + b"\0\0\0\1"), "big")
    return cipher, (total ^ mask).to_bytes(16, "big")


# Test case 14 of the GCM specification (McGrew and Viega).
assert gcm(bytes(32), bytes(12), bytes(16), b"")[0].hex() == "cea7403d4d606b6e074ec5d3baf39d18"
assert gcm(bytes(32), bytes(12), bytes(16), b"")[1].hex() == "d0d1c8a799996bf0265b98b5d48ab919"

# ------------------------------------------------------- tokens of identity providers

RSA_JWK = {"kty": "RSA", "n": RSA_N, "e": "AQAB"}
ED_JWK = {"kty": "OKP", "crv": "Ed25519", "x": b64(ed_public(SEED))}
OTHER_SEED = hashlib.sha256(b"another key of nobody").digest()

KEYS = {
    "keys": [
        {**RSA_JWK, "kid": "rsa", "use": "sig"},
        {**RSA_JWK, "kid": "pss", "alg": "PS256"},
        {**P256.jwk(D256), "kid": "p256"},
        {**P384.jwk(D384), "kid": "p384", "alg": "ES384"},
        {**ED_JWK, "kid": "ed", "use": "sig", "alg": "EdDSA", "key_ops": ["verify"]},
        {**ED_JWK, "x": b64(ed_public(OTHER_SEED)), "kid": "ed2"},
    ]
}

SIGN = {
    "RS256": ("rsa", lambda data: rsa_pkcs1("sha256", data)),
    "RS384": ("rsa", lambda data: rsa_pkcs1("sha384", data)),
    "RS512": ("rsa", lambda data: rsa_pkcs1("sha512", data)),
    "PS256": ("rsa", lambda data: rsa_pss("sha256", data)),
    "PS384": ("rsa", lambda data: rsa_pss("sha384", data)),
    "PS512": ("rsa", lambda data: rsa_pss("sha512", data)),
    "ES256": ("p256", lambda data: P256.sign(D256, data)),
    "ES384": ("p384", lambda data: P384.sign(D384, data)),
    "EdDSA": ("ed", lambda data: ed_sign(SEED, data)),
}

ISSUER = "https://id.example/a"
NOW = 1_800_000_000
CLAIMS = {"iss": ISSUER, "aud": "pinion", "sub": "ana", "iat": NOW - 10, "exp": NOW + 300}


def jws(header, payload, sign):
    if not isinstance(header, bytes):
        header = compact(header)
    if not isinstance(payload, bytes):
        payload = compact(payload)
    signed = f"{b64(header)}.{b64(payload)}".encode()
    return (signed + b"." + b64(sign(signed)).encode()).decode()


def token(alg="ES256", claims=None, header=None, payload=None):
    """A token of that algorithm; `claims` change or (with None) take away claims."""
    kid, sign = SIGN[alg]
    if payload is None:
        payload = {k: v for k, v in {**CLAIMS, **(claims or {})}.items() if v is not None}
    if header is None:
        header = {"alg": alg, "kid": kid}
    elif isinstance(header, dict):
        header = {k: v for k, v in {"alg": alg, "kid": kid, **header}.items() if v is not None}
    return jws(header, payload, sign)


def flip(text, place):
    """The same token with one base64 digit turned into its neighbour."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:place] + digits[digits.index(text[place]) ^ 1] + text[place + 1:]


def p1363_to_der(raw):
    def integer(half):
        half = half.lstrip(b"\0")
        half = b"\0" + half if half[0] & 0x80 else half
        return b"\2" + bytes([len(half)]) + half
    body = integer(raw[:32]) + integer(raw[32:])
    return b"\x30" + bytes([len(body)]) + body


def upstream():
    good, bad = [], []

    def yes(name, text, subject="ana", groups=(), wall=NOW * 1000, expires=(NOW + 300) * 1000):
        good.append({"name": name, "token": text, "wall_ms": wall, "subject": subject,
                     "groups": list(groups), "expires_ms": expires})

    def no(name, why, text, wall=NOW * 1000):
        bad.append({"name": name, "token": text, "wall_ms": wall, "refused": why})

    for alg in SIGN:
        yes(f"signed with {alg}", token(alg))
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT"]:
        yes(f"typ {typ}", token(header={"typ": typ}))
    yes("what the header says besides", token(header={"x5t": "abc", "nonce": [1, {"a": 2}]}))
    yes("no kid where one key fits", token(header={"kid": None}))
    yes("one of many audiences", token(claims={"aud": ["else", "pinion", 7]}))
    yes("the other audience", token(claims={"aud": "api://pinion"}))
    yes("a fraction of a second", token(claims={"exp": NOW + 0.5}), expires=NOW * 1000 + 500)
    yes("no time of issue", token(claims={"iat": None}))
    yes("groups in a list", token(claims={"groups": ["ops", "dev"]}), groups=["ops", "dev"])
    yes("one group as text", token(claims={"groups": "ops"}), groups=["ops"])
    yes("groups null", token(payload=compact({**CLAIMS, "groups": None})))
    yes("256 groups", token(claims={"groups": [f"g{i}" for i in range(256)]}), groups=[f"g{i}" for i in range(256)])
    yes("a subject of 256 bytes", token(claims={"sub": "s" * 256}), subject="s" * 256)
    yes("a subject that is not ASCII", token(claims={"sub": "Zoë"}), subject="Zoë")
    yes("the last moment within the skew", token(), wall=(NOW + 360) * 1000 - 1)
    yes("issued as late as the skew allows", token(claims={"iat": NOW + 60}))
    yes("valid from as late as the skew allows", token(claims={"nbf": NOW + 60}))

    # Algorithms.
    unsigned = f'{b64(compact({"alg": "none"}))}.{b64(compact(CLAIMS))}.'
    no("alg none", "WrongAlgorithm", unsigned)
    for alg in ["NONE", "nOnE", "", "es256", "ES256K", "ES512", "RS1", "HS256", "A128KW"]:
        no(f"alg '{alg}'", "WrongAlgorithm", token(header={"alg": alg}))
    secret = unb64(RSA_N)
    confused = jws({"alg": "HS256", "kid": "rsa"}, CLAIMS, lambda data: hmac.digest(secret, data, "sha256"))
    no("the public key as a shared secret", "WrongAlgorithm", confused)
    no("alg missing", "Malformed", token(header={"alg": None}))
    no("alg a number", "Malformed", token(header={"alg": 256}))
    no("a key of another kind", "WrongAlgorithm", token("ES256", header={"kid": "rsa"}))
    no("a key of another curve", "WrongAlgorithm", token("ES256", header={"kid": "p384"}))
    yes("a key bound to its algorithm", token("PS256", header={"kid": "pss"}))
    no("a key bound to another algorithm", "WrongAlgorithm", token("RS256", header={"kid": "pss"}))

    # Headers.
    for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64"]:
        value = {"jwk": ED_JWK, "crit": ["exp"], "b64": False}.get(name, "https://evil.example")
        no(f"header {name}", "Malformed", token(header={name: value}))
    own = {**ED_JWK, "x": b64(ed_public(OTHER_SEED))}
    no("signed by the key it brings along", "Malformed",
       jws({"alg": "EdDSA", "jwk": own}, CLAIMS, lambda data: ed_sign(OTHER_SEED, data)))
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "text/jwt", "", 1, None]:
        header = compact({"typ": typ, "alg": "ES256", "kid": "p256"})
        no(f"typ {typ!r}", "Malformed", token(header=header))
    no("alg twice", "Malformed", token(header=b'{"alg":"none","alg":"ES256","kid":"p256"}'))
    no("kid a number", "Malformed", token(header={"kid": 1}))
    no("kid of 257 bytes", "Malformed", token(header={"kid": "k" * 257}))
    bare = len(compact({"alg": "ES256", "kid": "p256", "z": ""}))
    yes("a header of 512 bytes", token(header={"z": "z" * (512 - bare)}))
    no("a header of 513 bytes", "TooLarge", token(header={"z": "z" * (513 - bare)}))
    no("a header that is a list", "Malformed", token(header=b'["ES256"]'))
    no("a header that is not UTF-8", "Malformed", token(header=b'{"alg":"ES256","kid":"\xff"}'))

    # Form.
    plain = token()
    head, body, tail = plain.split(".")
    for name, text in [
        ("empty", ""), ("one part", head), ("two parts", f"{head}.{body}"), ("four parts", f"{plain}.{tail}"),
        ("five parts", f"{head}.a.b.c.{tail}"), ("dots alone", ".."), ("padded", f"{head}.{body}.{tail}=="),
        ("a space before", f" {plain}"), ("a line end after", f"{plain}\n"), ("Bearer before", f"Bearer {plain}"),
        ("not base64url", f"{head}.{body}.{tail[:-1]}+"), ("a line end inside", f"{head}.\n{body}.{tail}"),
        ("one digit too many", f"{head}.{body}.{tail}AAA"), ("JSON instead", json.dumps({"payload": body})),
    ]:
        no(name, "Malformed", text)
    # 64 bytes leave four unused bits in the last digit, which must be zero.
    no("another spelling of the same bytes", "Malformed", flip(plain, len(plain) - 1))

    # Signatures.
    no("signed by another key", "BadSignature", token("EdDSA", header={"kid": "ed2"}))
    no("no signature", "BadSignature", f"{head}.{body}.")
    no("r and s zero", "BadSignature", f"{head}.{body}.{b64(bytes(64))}")
    no("r and s in DER", "BadSignature", jws({"alg": "ES256", "kid": "p256"}, CLAIMS, lambda data: p1363_to_der(P256.sign(D256, data))))
    no("a signature of 513 bytes", "TooLarge", f"{head}.{body}.{b64(bytes(513))}")
    no("another payload", "BadSignature", f'{head}.{b64(compact({**CLAIMS, "sub": "eve"}))}.{tail}')
    no("another header", "BadSignature", f'{b64(compact({"kid": "p256", "alg": "ES256"}))}.{body}.{tail}')
    no("PKCS #1 under the name of PSS", "BadSignature", jws({"alg": "PS256", "kid": "rsa"}, CLAIMS, SIGN["RS256"][1]))
    no("RS256 cut to 255 bytes", "BadSignature", jws({"alg": "RS256", "kid": "rsa"}, CLAIMS, lambda data: SIGN["RS256"][1](data)[1:]))
    no("unknown kid", "UnknownKey", token(header={"kid": "gone"}))
    no("no kid where two keys fit", "UnknownKey", token("EdDSA", header={"kid": None}))

    # Claims.
    no("claims that are no JSON", "Malformed", token(payload=b"ana"))
    no("claims with a member twice", "Malformed", token(payload=compact(CLAIMS)[:-1] + b',"sub":"eve"}'))
    no("claims with a member twice, spelled otherwise", "Malformed", token(payload=compact(CLAIMS)[:-1] + b',"s\\u0075b":"eve"}'))
    no("another issuer", "WrongIssuer", token(claims={"iss": "https://id.example/b"}))
    no("an issuer with a slash more", "WrongIssuer", token(claims={"iss": ISSUER + "/"}))
    no("no issuer", "WrongIssuer", token(claims={"iss": None}))
    no("another audience", "WrongAudience", token(claims={"aud": "else"}))
    no("other audiences", "WrongAudience", token(claims={"aud": ["else", "Pinion"]}))
    no("no audience in a list", "WrongAudience", token(claims={"aud": []}))
    no("no audience", "Malformed", token(claims={"aud": None}))
    no("an audience that is a number", "Malformed", token(claims={"aud": 1}))
    no("no end", "Malformed", token(claims={"exp": None}))
    no("an end in words", "Malformed", token(claims={"exp": str(NOW + 300)}))
    no("over, to the millisecond", "Expired", token(), wall=(NOW + 360) * 1000)
    no("over since long ago", "Expired", token(claims={"exp": -1.5}))
    no("not yet valid", "NotYet", token(claims={"nbf": NOW + 61}))
    no("issued in the future", "NotYet", token(claims={"iat": NOW + 61}))
    no("valid from the end of time", "NotYet", token(claims={"nbf": 1e300}))
    no("no subject", "Malformed", token(claims={"sub": None}))
    no("an empty subject", "Malformed", token(claims={"sub": ""}))
    no("a subject that is a number", "Malformed", token(claims={"sub": 7}))
    no("a subject of 257 bytes", "Malformed", token(claims={"sub": "s" * 257}))
    no("a subject with a line end", "Malformed", token(claims={"sub": "ana\nroot"}))
    no("257 groups", "Malformed", token(claims={"groups": [f"g{i}" for i in range(257)]}))
    no("a group that is a number", "Malformed", token(claims={"groups": ["ops", 1]}))
    no("groups in an object", "Malformed", token(claims={"groups": {"ops": True}}))
    return {
        "keys": KEYS,
        "rules": {"issuer": ISSUER, "audiences": ["pinion", "api://pinion"], "subject_claim": "sub",
                  "groups_claim": "groups", "clock_skew_s": 60},
        "good": good, "bad": bad,
    }


# ------------------------------------------------------------------------- JWK sets


def key_sets():
    """Sets of one key each, and why it is left out; then whole sets that are refused."""
    rsa = {**RSA_JWK, "kid": "k"}
    p256 = {**P256.jwk(D256), "kid": "k"}
    ed = {**ED_JWK, "kid": "k"}

    def rsa_of(bits):
        n = 1 << (bits - 1) | 1
        return {**rsa, "n": b64(n.to_bytes((bits + 7) // 8, "big"))}

    def without(key, name):
        return {k: v for k, v in key.items() if k != name}

    left_out = [
        ("symmetric", "Symmetric", {"kty": "oct", "kid": "k", "k": b64(bytes(32)), "alg": "HS256"}),
        ("symmetric in disguise", "Symmetric", {**rsa, "k": "AAAA"}),
        ("RSA with its private half", "Private", {**rsa, "d": RSA_D}),
        ("RSA with one prime", "Private", {**rsa, "p": "AQAB"}),
        ("EC with its private half", "Private", {**p256, "d": b64(D256.to_bytes(32, "big"))}),
        ("Ed25519 with its private half", "Private", {**ed, "d": b64(SEED)}),
        ("RSA of 1024 bits", "Size", rsa_of(1024)),
        ("RSA of 2047 bits", "Size", rsa_of(2047)),
        ("RSA of 4097 bits", "Size", rsa_of(4097)),
        ("RSA of 8192 bits", "Size", rsa_of(8192)),
        ("RSA larger than is read", "Member", rsa_of(8200)),
        ("RSA with a leading zero", "Member", {**rsa, "n": b64(b"\0" + unb64(RSA_N))}),
        ("RSA with an exponent of six bytes", "Member", {**rsa, "e": b64(b"\1\0\0\0\0\1")}),
        ("RSA with an empty exponent", "Member", {**rsa, "e": ""}),
        ("RSA without modulus", "Member", without(rsa, "n")),
        ("RSA with padding", "Member", {**rsa, "e": "AQAB="}),
        ("EC on another curve", "UnknownType", {**p256, "crv": "secp256k1"}),
        ("EC with a short coordinate", "Member", {**p256, "x": b64(bytes(31))}),
        ("EC with a long coordinate", "Member", {**p256, "y": b64(bytes(33))}),
        ("EC without y", "Member", without(p256, "y")),
        ("X25519", "UnknownType", {**ed, "crv": "X25519"}),
        ("Ed448", "UnknownType", {**ed, "crv": "Ed448"}),
        ("Ed25519 of 31 bytes", "Member", {**ed, "x": b64(bytes(31))}),
        ("a type of tomorrow", "UnknownType", {"kty": "AKP", "kid": "k", "pub": "AAAA"}),
        ("no type", "Member", without(rsa, "kty")),
        ("for encryption", "OtherUse", {**rsa, "use": "enc"}),
        ("for a use that is a number", "OtherUse", {**rsa, "use": 1}),
        ("for signing alone", "OtherUse", {**rsa, "key_ops": ["sign"]}),
        ("key_ops as text", "Member", {**rsa, "key_ops": "verify"}),
        ("RSA for ES256", "OtherAlgorithm", {**rsa, "alg": "ES256"}),
        ("P-256 for ES384", "OtherAlgorithm", {**p256, "alg": "ES384"}),
        ("RSA for RSA-OAEP", "OtherAlgorithm", {**rsa, "alg": "RSA-OAEP"}),
        ("alg a number", "Member", {**rsa, "alg": 256}),
        ("kid a number", "Member", {**rsa, "kid": 1}),
        ("kid of 257 bytes", "Member", {**rsa, "kid": "k" * 257}),
    ]
    used = [
        ("RSA of 2048 bits", [rsa]),
        ("RSA of 4096 bits", [rsa_of(4096)]),
        ("RSA with e = 3", [{**rsa, "e": "Aw"}]),
        ("a key without name", [without(ed, "kid")]),
        ("two keys without names", [without(ed, "kid"), without(rsa, "kid")]),
        ("a chain and a thumbprint besides", [{**rsa, "x5c": ["MIIB"], "x5t": "abc"}]),
        ("a key that is left out beside one with its name", [rsa, {**rsa, "use": "enc"}]),
        ("none", []),
        ("64 keys", [{**ed, "kid": f"k{i}"} for i in range(64)]),
    ]
    refused = [
        ("not JSON", "Malformed", "keys"), ("a list", "Malformed", "[]"), ("no keys", "Malformed", "{}"),
        ("keys in an object", "Malformed", '{"keys":{}}'), ("a key that is text", "Malformed", '{"keys":["k"]}'),
        ("keys twice", "Malformed", '{"keys":[],"keys":[]}'),
        ("a member of a key twice", "Malformed", '{"keys":[{"kty":"oct","kty":"RSA"}]}'),
        ("65 keys", "TooMany", compact({"keys": [{"kty": "oct"}] * 65}).decode()),
    ]
    return {
        "used": [{"name": n, "set": compact({"keys": keys}).decode(), "keys": sum(k.get("use") != "enc" for k in keys)} for n, keys in used],
        "left_out": [{"name": n, "why": why, "set": compact({"keys": [key]}).decode()} for n, why, key in left_out]
        + [{"name": "two keys of one name", "why": "SameName", "set": compact({"keys": [rsa, ed]}).decode()}],
        "refused": [{"name": n, "why": why, "set": text} for n, why, text in refused],
    }


# ------------------------------------------------------------------- Pinion's own tokens

CLUSTER = bytes(range(16))
REALM = f"pinion/{CLUSTER.hex()}"
JTI = "000102030405060708090a0b0c0d0e0f"


def kid_of(public):
    return hashlib.sha256(public).digest()[:16].hex()


OWN_KID = kid_of(ed_public(SEED))
OWN_HEADER = b'{"alg":"EdDSA","typ":"JWT","kid":"' + OWN_KID.encode() + b'"}'
OWN_CLAIMS = {
    "iss": REALM, "aud": REALM, "sub": "p:ana", "tid": "t1", "iat": NOW, "exp": NOW + 900, "jti": JTI,
    "perms": ["stream.publish:stream:t1/payments/orders", "cache.read:cache:t1/*"],
}


def own(claims=None, header=OWN_HEADER, payload=None, seed=SEED):
    if payload is None:
        payload = {k: v for k, v in {**OWN_CLAIMS, **(claims or {})}.items() if v is not None}
    return jws(header, payload, lambda data: ed_sign(seed, data))


def tokens():
    good, bad = [], []

    def yes(name, claims=None, wall=NOW * 1000, **given):
        said = {**OWN_CLAIMS, **(claims or {})}
        good.append({"name": name, "token": own(claims, **given), "wall_ms": wall, "claims": said})

    def no(name, why, text, wall=NOW * 1000):
        bad.append({"name": name, "token": text, "wall_ms": wall, "refused": why})

    yes("as it is issued")
    yes("nothing granted", {"perms": []})
    yes("64 permissions", {"perms": [f"cache.read:cache:t1/n/{i}" for i in range(64)]})
    yes("a subject that JSON escapes", {"sub": 'p:"\\/Zoë'})
    yes("the shortest life", {"exp": NOW + 1})
    yes("the longest life", {"exp": NOW + 3600})
    yes("by a node whose clock is 30 s ahead", wall=NOW * 1000 - 30_000)
    yes("the last moment within the skew", wall=(NOW + 930) * 1000 - 1)

    no("by a node whose clock is further ahead", "NotYet", own(), wall=NOW * 1000 - 30_001)
    no("over, to the millisecond", "Expired", own(), wall=(NOW + 930) * 1000)
    no("a life without length", "Malformed", own({"exp": NOW}))
    no("a life that ends before it begins", "Malformed", own({"exp": NOW - 1}))
    no("a life of 3601 s", "Malformed", own({"exp": NOW + 3601}))
    no("another cluster", "WrongIssuer", own({"iss": "pinion/" + "f" * 32}))
    no("for another cluster", "WrongAudience", own({"aud": "pinion/" + "f" * 32}))
    no("an audience in a list", "Malformed", own({"aud": [REALM]}))
    no("65 permissions", "Malformed", own({"perms": ["cache.read:cache:t1/*"] * 65}))
    no("permissions as text", "Malformed", own({"perms": "cache.read:cache:t1/*"}))
    for name in OWN_CLAIMS:
        no(f"no {name}", "Malformed", own({name: None}))
    no("a claim besides", "Malformed", own({"nbf": NOW}))
    no("a claim twice", "Malformed", own(payload=compact(OWN_CLAIMS)[:-1] + b',"tid":"t2"}'))
    no("times in words", "Malformed", own({"exp": str(NOW + 900)}))
    no("times with a fraction", "Malformed", own({"exp": NOW + 900.5}))
    no("times below zero", "Malformed", own({"iat": -1}))
    no("an empty subject", "Malformed", own({"sub": ""}))
    no("a subject of 513 bytes", "Malformed", own({"sub": "s" * 513}))
    no("a subject with a zero byte", "Malformed", own({"sub": "p:ana\0"}))
    no("a number in upper case", "Malformed", own({"jti": JTI.upper()}))
    no("a number of 30 digits", "Malformed", own({"jti": JTI[:30]}))
    no("claims that are a list", "Malformed", own(payload=[REALM]))
    no("claims that are no JSON", "Malformed", own(payload=b"{"))
    no("something after the claims", "Malformed", own(payload=compact(OWN_CLAIMS) + b"{}"))

    plain = own()
    head, body, tail = plain.split(".")
    no("signed by another key", "BadSignature", own(seed=OTHER_SEED))
    no("another payload", "BadSignature", f'{head}.{b64(compact({**OWN_CLAIMS, "sub": "p:eve"}))}.{tail}')
    no("a payload that is not base64url, unsigned", "BadSignature", f"{head}.{body[:-1]}+.{tail}")
    no("a payload with another spelling, unsigned", "BadSignature", f"{head}.{body}AAA.{tail}")
    no("a signature of zeros", "BadSignature", f"{head}.{body}.{b64(bytes(64))}")
    no("s above the group's order", "BadSignature",
       f"{head}.{body}." + b64(unb64(tail)[:32] + (int.from_bytes(unb64(tail)[32:], "little") + ED_L).to_bytes(32, "little")))
    no("no payload", "BadSignature", f"{head}..{tail}")
    no("four parts", "BadSignature", f"{plain}.{tail}")
    unsigned = [
        ("kid in upper case", OWN_HEADER.replace(OWN_KID.encode(), OWN_KID.upper().encode())),
        ("members in another order", b'{"typ":"JWT","alg":"EdDSA","kid":"' + OWN_KID.encode() + b'"}'),
        ("a space in the header", OWN_HEADER.replace(b'","kid"', b'", "kid"')),
        ("another type", OWN_HEADER.replace(b"JWT", b"JWS")),
        ("alg none", OWN_HEADER.replace(b"EdDSA", b"none")),
        ("alg HS256", OWN_HEADER.replace(b"EdDSA", b"HS256")),
        ("a longer kid", OWN_HEADER.replace(b'"}', b'00"}')),
    ]
    for name, header in unsigned:
        no(name, "Malformed", own(header=header))
    for name, text in [
        ("empty", ""), ("one part", head), ("two parts", f"{head}.{body}"),
        ("padded", plain + "=="), ("a line end after", plain + "\n"), ("dots alone", ".."),
        ("another spelling of the header", flip(plain, 90)), ("another spelling of the signature", flip(plain, len(plain) - 1)),
    ]:
        no(name, "Malformed", text)
    return {"cluster": CLUSTER.hex(), "seed": SEED.hex(), "public": ed_public(SEED).hex(), "kid": OWN_KID, "good": good, "bad": bad}


# ------------------------------------------------------------------------- sealed keys


def master_id(master):
    return hashlib.sha256(b"pinion master key\0" + master).digest()[:4]


def seal(master, tenant, kid, seed, nonce, version=1):
    head = version.to_bytes(4, "little") + master_id(master)
    cipher, tag = gcm(master, nonce, seed, head + tenant.to_bytes(8, "little") + kid)
    return [(head[:4], "version"), (head[4:], "master id"), (nonce, "nonce"), (cipher, "sealed seed"), (tag, "tag")]


def seals():
    rows = []
    for name, master, tenant, seed, nonce in [
        ("the first tenant", bytes(range(32)), 1, SEED, bytes(range(12))),
        ("another tenant", bytes(range(32)), 0x0102030405060708, SEED, bytes(range(12))),
        ("all ones", b"\xff" * 32, 2**64 - 1, OTHER_SEED, b"\xff" * 12),
    ]:
        kid = bytes.fromhex(kid_of(ed_public(seed)))
        fields = seal(master, tenant, kid, seed, nonce)
        rows.append({"name": name, "master": master.hex(), "tenant": tenant, "kid": kid.hex(), "seed": seed.hex(),
                     "nonce": nonce.hex(), "hex": [f"{data.hex()} {what}" for data, what in fields]})
    return rows


# ---------------------------------------------------------------------------- key rings


def key_ring():
    def jwk(seed):
        public = ed_public(seed)
        return {"kty": "OKP", "kid": kid_of(public), "alg": "EdDSA", "use": "sig", "crv": "Ed25519", "x": b64(public)}

    seeds = [SEED, OTHER_SEED, hashlib.sha256(b"a third key of nobody").digest()]
    names = ["current", "next", "previous"]
    return {**{n: s.hex() for n, s in zip(names, seeds)},
            "with_previous": compact({"keys": [jwk(s) for s in seeds]}).decode(),
            "without_previous": compact({"keys": [jwk(s) for s in seeds[:2]]}).decode()}


# ----------------------------------------------------------------------------- API keys


def api_keys():
    rows = []
    for prefix, secret in [(bytes(4), bytes(32)), (bytes([0xDE, 0xAD, 0xBE, 0xEF]), bytes(range(32))), (b"\xff" * 4, b"\xff" * 32)]:
        text = f"pinion_key_{prefix.hex()}_{secret.hex()}"
        rows.append({"prefix": prefix.hex(), "secret": secret.hex(), "text": text, "digest": hashlib.sha256(text.encode()).hexdigest()})
    return rows


# ---------------------------------------------------------------------------- providers


def providers():
    """URLs that are taken, as urllib takes them apart, and documents that name one."""
    urls, bad_urls, documents = [], [], []
    for text in [
        "https://id.example/keys", "http://id.example/", "https://id.example:8443/a/b?c=d&e=/?", "https://127.0.0.1/keys",
        "http://127.0.0.1:3000/jwks", "https://[2001:db8::1]/keys", "https://[::1]:1/x", "https://a-b.c_d.example:65535/~a/%7Bb%7D;c=(1),@:!$&'*+",
        "https://" + "a" * 63 + ".example/k", "https://ID.Example/Keys", "https://localhost/.well-known/jwks.json", "https://id.example:443/x",
        "https://1.2.3.example/x", "https://id.example//x/../y", "https://id.example/" + "k" * (1024 - 19),
    ]:
        parts = urllib.parse.urlsplit(text)
        host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
        urls.append({"text": text, "secure": parts.scheme == "https", "host": host, "port": parts.port or {"https": 443, "http": 80}[parts.scheme],
                     "authority": parts.netloc, "target": parts.path + ("?" + parts.query if parts.query else "")})
    for why, texts in {
        "TooLong": ["https://id.example/" + "k" * (1025 - 19)],
        "Scheme": ["", "id.example/keys", "ftp://id.example/keys", "HTTPS://id.example/keys", "https:/id.example/keys", "//id.example/keys", " https://id.example/keys", "file:///etc/passwd"],
        "Host": ["https:///keys", "https://", "https://ana@id.example/keys", "https://ana:b@id.example/keys", "https://id..example/keys", "https://id.example./keys",
                 "https://" + "a" * 64 + ".example/keys", "https://" + "a." * 127 + "a/keys", "https://id%2eexample/keys", "https://idé.example/keys", "https://id example/keys",
                 "https://2130706433/keys", "https://0x7f.1/keys", "https://127.1/keys", "https://127.0.0.01/keys", "https://127.0.0.256/keys", "https://127.0.0.0x1/keys", "https://[::1/keys", "https://::1/keys",
                 "https://[127.0.0.1]/keys", "https://[::1]a/keys", "https://[::1%25eth0]/keys", "https://id.example\\@127.0.0.1/keys", "https://\tid.example/keys", "https://:443/keys"],
        "Port": ["https://id.example:/keys", "https://id.example:0/keys", "https://id.example:65536/keys", "https://id.example:+443/keys", "https://id.example:0443/keys", "https://id.example:x/keys",
                 "https://[::1]:/keys", "https://id.example:443:443/keys"],
        "Path": ["https://id.example", "https://id.example?keys", "https://id.example#keys", "https://id.example/keys#1", "https://id.example/a b", "https://id.example/a\r\nHost: b",
                 "https://id.example/%", "https://id.example/%4", "https://id.example/%4g", "https://id.example/ké", "https://id.example/a\\b", "https://id.example/[a]", "https://id.example/a\"b",
                 "https://id.example/a\x7f"],
    }.items():
        bad_urls += [{"text": text, "why": why} for text in texts]

    issuer, keys, at = "https://id.example/a", "https://keys.example/a?v=1", "https://id.example/a/.well-known/openid-configuration"
    insecure = "http://127.0.0.1:3000/.well-known/openid-configuration"

    def document(name, value, why=None, of=at):
        text = value if isinstance(value, str) else compact(value).decode()
        documents.append({"name": name, "from": of, "document": text, **({"why": why} if why else {})})

    document("what is needed", {"issuer": issuer, "jwks_uri": keys})
    document("with all that there is besides", {"token_endpoint": "https://id.example/t", "issuer": issuer, "scopes_supported": ["openid"], "jwks_uri": keys, "x": {"y": None}})
    document("from http to https", {"issuer": issuer, "jwks_uri": keys}, of=insecure)
    document("another issuer", {"issuer": "https://id.example/b", "jwks_uri": keys}, "OtherIssuer")
    document("an issuer with a slash after it", {"issuer": issuer + "/", "jwks_uri": keys}, "OtherIssuer")
    document("an issuer in upper case", {"issuer": issuer.upper(), "jwks_uri": keys}, "OtherIssuer")
    document("no issuer", {"jwks_uri": keys}, "Document")
    document("an issuer that is a list", {"issuer": [issuer], "jwks_uri": keys}, "Document")
    document("no keys", {"issuer": issuer}, "Document")
    document("keys in the document", {"issuer": issuer, "jwks_uri": {"keys": []}}, "Document")
    document("keys at no URL", {"issuer": issuer, "jwks_uri": "/keys"}, "Document")
    document("keys in a file", {"issuer": issuer, "jwks_uri": "file:///keys"}, "Document")
    document("from https to http", {"issuer": issuer, "jwks_uri": "http://keys.example/a"}, "Document")
    document("two places", compact({"issuer": issuer, "jwks_uri": keys}).decode()[:-1] + ',"jwks_uri":"https://eve.example/"}', "Document")
    document("a list", [{"issuer": issuer, "jwks_uri": keys}], "Document")
    document("a page", "<html>", "Document")
    document("nothing", "", "Document")
    document("one byte too long", compact({"issuer": issuer, "jwks_uri": keys}).decode().ljust(65537), "Document")
    return {"issuer": issuer, "keys": keys, "urls": urls, "bad_urls": bad_urls, "documents": documents}


def write(name, value):
    with open(name, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def seeds(target, rows):
    """What the fuzz targets begin with."""
    folder = pathlib.Path("../fuzz/corpus") / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in rows:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


if __name__ == "__main__":
    foreign, sets, ours, sealed = upstream(), key_sets(), tokens(), seals()
    write("upstream.json", foreign)
    write("key_sets.json", sets)
    write("tokens.json", ours)
    write("sealed.json", sealed)
    write("key_ring.json", key_ring())
    write("api_keys.json", api_keys())
    where = providers()
    write("providers.json", where)
    every = [case["token"] for case in foreign["good"]]
    seeds("jws", [(f"{i}", token) for i, token in enumerate(every) if i < 12 or i % 8 == 0])
    seeds("jwks", [("issuer", compact(KEYS))])
    seeds("jwks", [(f"left{i}", case["set"]) for i, case in enumerate(sets["left_out"]) if i % 4 == 0])
    seeds("token", [(f"{i}", case["token"]) for i, case in enumerate(ours["good"])])
    for row in sealed:
        data = bytes.fromhex("".join(line.split(" ")[0] for line in row["hex"]))
        seeds("sealed", [(row["name"].replace(" ", "_"), data)])
    seeds("bearer", [("token", ours["good"][0]["token"]), ("api_key", api_keys()[0]["text"])])
    seeds("discovery", [(f"{i}", case["document"]) for i, case in enumerate(where["documents"]) if len(case["document"]) < 1000 and i % 3 == 0])
    seeds("discovery", [(f"url{i}", case["text"]) for i, case in enumerate(where["urls"]) if i % 3 == 2])
