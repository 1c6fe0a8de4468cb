"""From the token of a real identity provider to one of ours, and back out again."""

import base64
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

WAIT = 20
API = f"https://127.0.0.1:{os.environ['PORT']}"
FIRST_DAY = f"https://127.0.0.1:{os.environ['FIRST_DAY_PORT']}"
ISSUER = f"http://127.0.0.1:{os.environ['IDP_PORT']}"
TLS = ssl.create_default_context(cafile=os.environ["NODE_CA"])


def ask(method, url, body=None, bearer=None, headers=()):
    """The status and the body of an answer."""
    headers = dict(headers)
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["content-type"] = "application/json"
    if bearer:
        headers["authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, context=TLS, timeout=WAIT) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


class Provider:
    """The provider, signing with a key of this name."""

    def __init__(self, kid):
        command = ["node", os.environ["PROVIDER"], os.environ["IDP_PORT"], kid]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        said = self.process.stdout.readline()
        assert "ready" in said, "the provider did not start"

    def token(self, who):
        form = urllib.parse.urlencode(
            {"grant_type": "client_credentials", "resource": "https://pinion.example"}
        )
        basic = base64.b64encode(f"{who}:{who}-secret".encode()).decode()
        request = urllib.request.Request(
            f"{ISSUER}/token", data=form.encode(), headers={"authorization": f"Basic {basic}"}
        )
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return json.load(answer)["access_token"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def exchange(upstream, body=None):
    return ask("POST", f"{API}/v1/tenants/acme/token/exchange", body or {}, upstream)


def expect(answer, status, code=None):
    assert answer[0] == status, answer
    if code:
        assert answer[1]["code"] == code, answer
    return answer[1]


def main():
    provider = Provider("first")
    try:
        story(provider)
    finally:
        provider.stop()


def story(provider):
    with open(os.environ["SECRET_FILE"], encoding="utf-8") as file:
        secret = {"x-pinion-bootstrap-token": file.read().strip()}
    first_day = f"{FIRST_DAY}/internal/bootstrap/tenants/acme/initialize"
    body = {
        "display_name": "Acme",
        "initial_admin_principals": ["p:ana"],
        "idp_issuers": [{"issuer": ISSUER, "audiences": ["pinion"], "algorithms": ["ES256"]}],
    }
    expect(ask("POST", first_day, body), 401, "unauthenticated")
    expect(ask("POST", first_day, body, headers=secret), 201)
    expect(ask("POST", first_day, body, headers=secret), 409, "already_initialized")
    print("first day: done, and done once")

    token = provider.token("ana")
    ana = expect(exchange(token), 200)["access_token"]
    expect(exchange(token[:-4]), 401)
    expect(exchange(provider.token("bo")), 403, "nothing_granted")
    policies = f"{API}/v1/tenants/acme/rbac/policies"
    rows = [{"subject": "p:bo", "action": "stream.*", "object": "namespace:acme/pay"}]
    expect(ask("POST", policies, {"policies": rows}, ana), 201)
    wanted = {"requested": ["stream.publish"], "resources": ["stream:acme/pay/orders"]}
    narrowed = expect(within(lambda: exchange(provider.token("bo"), wanted), 200), 200)
    assert narrowed["permissions"] == ["stream.publish:stream:acme/pay/orders"], narrowed
    bo = expect(exchange(provider.token("bo")), 200)["access_token"]
    expect(ask("GET", policies, bearer=bo), 403, "forbidden")
    print("exchange: ana administers, bo has what a policy says, narrowed to what was asked")

    # The provider signs with another key and publishes that alone.
    before = provider.token("ana")
    provider.stop()
    began = time.monotonic()
    provider.__init__("second")
    answer = within(lambda: exchange(provider.token("ana")), 200)
    expect(answer, 200)
    expect(exchange(before), 401, "unauthenticated")
    took = time.monotonic() - began
    print(f"rotation at the provider: the new key counts after {took:.1f} s, the old one no more")

    keys = f"{API}/v1/tenants/acme/.well-known/jwks.json"
    first = [key["kid"] for key in expect(ask("GET", keys), 200)["keys"]]
    expect(ask("POST", f"{API}/v1/tenants/acme/keys/rotate", bearer=ana), 200)
    second = [key["kid"] for key in expect(ask("GET", keys), 200)["keys"]]
    assert second[0] == first[1] and first[0] in second, (first, second)
    expect(ask("GET", f"{API}/v1/tenants/acme", bearer=bo), 200)
    print("rotation of ours: the next key signs, tokens of the one before still count")

    revoke = f"{API}/v1/tenants/acme/tokens/revoke"
    expect(ask("POST", revoke, {"subject": "p:bo"}, ana), 204)
    gone = within(lambda: ask("GET", f"{API}/v1/tenants/acme", bearer=bo), 401)
    expect(gone, 401, "unauthenticated")
    expect(ask("GET", f"{API}/v1/tenants/acme", bearer=ana), 200)
    print("revocation: bo's tokens count no more, ana's do")


def within(asked, status):
    """Asks until the status is that, for what follows the metadata or a provider's keys."""
    until = time.monotonic() + WAIT
    while True:
        answer = asked()
        if answer[0] == status or time.monotonic() > until:
            return answer
        time.sleep(0.2)


main()
