"""A browser without a window: it keeps cookies as one does, and follows what pages say."""

import re
import urllib.error
import urllib.parse
import urllib.request

STEPS_MAX = 20


class Answer:
    """A page, and where it is."""

    def __init__(self, url, status, headers, text):
        self.url, self.status, self.headers, self.text = url, status, headers, text


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def origin(url):
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Browser:
    """Takes another port for another site, which is stricter than browsers are."""

    def __init__(self, tls, wait):
        handler = urllib.request.HTTPSHandler(context=tls)
        self.opener = urllib.request.build_opener(NoRedirect, handler)
        self.wait = wait
        self.cookies = {}
        self.walked = []

    def ask(self, url, form=None, whose=None):
        """Asks once, because of a page of `whose` origin; of nobody's where nothing is said."""
        own = whose is None or whose == origin(url)
        kept = self.cookies.setdefault(origin(url), {})
        # RFC 6265bis 5.2: from elsewhere a link brings what is not strict, a form nothing.
        shown = [
            f"{name}={value}"
            for name, (value, site) in kept.items()
            if own or (site != "strict" and form is None)
        ]
        headers = {"cookie": "; ".join(shown)} if shown else {}
        if form is not None:
            headers["origin"] = whose or origin(url)
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(url, data=data, headers=headers)
        try:
            answer = self.opener.open(request, timeout=self.wait)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
        for line in answer.headers.get_all("set-cookie") or []:
            self.keep(kept, line)
        self.walked.append(url)
        return Answer(url, answer.status, answer.headers, text)

    @staticmethod
    def keep(kept, line):
        pair, *rest = [part.strip() for part in line.split(";")]
        name, value = pair.split("=", 1)
        said = {part.partition("=")[0].lower(): part.partition("=")[2].lower() for part in rest}
        over = said.get("max-age") == "0" or "1970" in said.get("expires", "")
        if over:
            kept.pop(name, None)
        else:
            kept[name] = (value, said.get("samesite", "lax"))

    def go(self, url, form=None, whose=None):
        """Asks, and goes on until a page stays."""
        answer = self.ask(url, form, whose)
        for _ in range(STEPS_MAX):
            if answer.status in (302, 303):
                # Whoever began it has begun what follows from it, too.
                to = urllib.parse.urljoin(answer.url, answer.headers["location"])
            else:
                found = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', answer.text)
                if not found:
                    return answer
                whose = origin(answer.url)
                to = urllib.parse.urljoin(answer.url, found[1].replace("&amp;", "&"))
            answer = self.ask(to, whose=whose)
        raise AssertionError(f"it never stays: {self.walked}")


def fields(page, action=""):
    """The hidden fields of a form, and where it is sent."""
    pattern = r'<form[^>]*action="([^"]*%s[^"]*)".*?</form>' % re.escape(action)
    form = re.search(pattern, page.text, re.S)
    assert form, page.text
    hidden = {}
    for tag in re.findall(r"<input[^>]*>", form[0]):
        said = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if said.get("type") == "hidden":
            hidden[said["name"]] = said.get("value", "")
    return hidden, urllib.parse.urljoin(page.url, form[1])
