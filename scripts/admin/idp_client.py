"""From the token of a real identity provider to one of ours, and back out again; and from its
login page to the dashboard."""

import base64
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from login_walk import Browser, fields

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
        redirect = f"{API}/ui/login/oidc/callback"
        command = ["node", os.environ["PROVIDER"], os.environ["IDP_PORT"], kid, redirect]
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
        "idp_issuers": [
            {"issuer": ISSUER, "audiences": ["pinion", "dashboard"], "algorithms": ["ES256"]}
        ],
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

    board(provider, ana)

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


def board(provider, ana):
    """Somebody logs in to the dashboard with the provider, looks, and logs out."""
    # Who manages a tenant does not yet look at it.
    row = {"subject": "p:ana", "action": "admin:read", "object": "tenant:acme"}
    policies = f"{API}/v1/tenants/acme/rbac/policies"
    expect(ask("POST", policies, {"policies": [row]}, os.environ["ADMIN_TOKEN"]), 201)
    within(lambda: (exchange_may(provider, "admin:read:tenant:acme"),), True)
    browser = Browser(TLS, WAIT)
    page = browser.go(f"{API}/ui/tenants")
    assert page.url.startswith(f"{API}/ui/login"), page.url
    assert 'href="/ui/login/oidc/corp?next=%2Fui%2Ftenants"' in page.text, page.text
    page = log_in(browser, "ana")
    assert page.status == 200 and page.url == f"{API}/ui/tenants", (page.url, page.text)
    assert "acme/p:ana" in page.text and "/ui/tenants/acme/namespaces" in page.text
    callbacks = [url for url in browser.walked if "/ui/login/oidc/callback" in url]
    assert len(callbacks) == 1 and "&iss=" in callbacks[0], browser.walked
    # What came back is of use once, and in that browser.
    for other in (browser, Browser(TLS, WAIT)):
        again = other.ask(callbacks[0])
        assert again.status == 403 and "begun elsewhere" in again.text, again.text
    hidden, action = fields(page, "/ui/logout")
    out = browser.go(action, hidden, API)
    assert out.url == f"{API}/ui/login", out.url
    page = browser.go(f"{API}/ui/tenants")
    assert page.url.startswith(f"{API}/ui/login"), page.url
    # Bo is who he says, and has nothing to look at here.
    page = log_in(Browser(TLS, WAIT), "bo")
    assert page.status == 403 and "may not see the dashboard" in page.text, page.text
    # Somebody who thinks better of it.
    browser = Browser(TLS, WAIT)
    page = browser.go(f"{API}/ui/login/oidc/corp")
    cancel = urllib.parse.urljoin(page.url, f"{urllib.parse.urlsplit(page.url).path}/abort")
    page = browser.go(cancel, whose=ISSUER)
    assert page.status == 401 and "access_denied" in page.text, page.text
    # Each of them has a row, by the name that the provider gives.
    path = "/v1/audit?action=login"
    rows = ask("GET", f"{API}{path}", bearer=os.environ["ADMIN_TOKEN"])
    rows = [(row["principal"], row["code"]) for row in expect(rows, 200)["rows"]]
    for one in [("acme/p:ana", None), ("acme/p:bo", "403"), ("", "401")]:
        assert one in rows, rows
    expect(ask("GET", f"{API}/v1/tenants/acme", bearer=ana), 200)
    print("dashboard: ana logs in with the provider, looks, logs out; bo is refused")


def exchange_may(provider, permission):
    """Whether what ana's token is exchanged for says so already."""
    return permission in expect(exchange(provider.token("ana")), 200)["permissions"]


def log_in(browser, who):
    """From the dashboard to the provider's pages and back."""
    page = browser.go(f"{API}/ui/login/oidc/corp?next=%2Fui%2Ftenants")
    for prompt in ("login", "consent"):
        assert page.url.startswith(f"{ISSUER}/interaction/"), (page.url, page.text)
        hidden, action = fields(page)
        assert hidden.get("prompt") == prompt, hidden
        if prompt == "login":
            hidden |= {"login": who, "password": "anything"}
        page = browser.go(action, hidden, ISSUER)
    return page


def within(asked, status):
    """Asks until the status is that, for what follows the metadata or a provider's keys."""
    until = time.monotonic() + WAIT
    while True:
        answer = asked()
        if answer[0] == status or time.monotonic() > until:
            return answer
        time.sleep(0.2)


main()
