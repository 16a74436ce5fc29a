# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Ask for a URL as the variables http_proxy, https_proxy and no_proxy say, and tell who answered.

The function ``proxytest`` of shells runs this file. Exit code 0: an answer below 400.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from urllib.parse import urlsplit

SECONDS = 15
REFUSED = 400  # HTTP status


class Stay(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an answer."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""
        return


def past(url: str) -> bool:
    """Whether ``no_proxy`` names the host, its domain, or a network that it lies in."""
    host = urlsplit(url).hostname or ""
    if urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    networks = [entry.strip() for entry in os.environ.get("no_proxy", "").split(",")]
    return any(address in ipaddress.ip_network(net, strict=False) for net in networks if "/" in net)


def without_login(proxy: str) -> str:
    """A proxy's URL as it may be shown."""
    parts = urlsplit(proxy)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def told(status: int, reason: str, headers: HTTPMessage) -> str:
    """An answer in words: its status and who signs it."""
    names = [name for name in ("Server", "Via", "Location") if headers.get(name)]
    signed = "; ".join(f"{name}: {headers[name]}" for name in names)
    return f"HTTP {status} {reason}" + (f" ({signed})" if signed else "")


def ask(url: str) -> tuple[bool, str]:
    """Whether something answered, and the sentence about it."""
    proxies = {} if past(url) else urllib.request.getproxies()
    proxy = proxies.get(urlsplit(url).scheme, "")
    way = f"through {without_login(proxy)}" if proxy else "past any proxy"
    handler = urllib.request.ProxyHandler({urlsplit(url).scheme: proxy} if proxy else {})
    opener = urllib.request.build_opener(handler, Stay)
    start = time.monotonic()
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            good, said = True, told(answer.status, answer.reason, answer.headers)
    except urllib.error.HTTPError as problem:
        good, said = problem.code < REFUSED, told(problem.code, problem.reason, problem.headers)
    except (OSError, HTTPException, ValueError) as problem:
        good, said = False, f"no answer: {getattr(problem, 'reason', problem)}"
    return good, f"{url} {way}: {said}, {time.monotonic() - start:.2f} s"


if __name__ == "__main__":
    answered, sentence = ask(sys.argv[1])
    sys.stdout.write(sentence + "\n")
    sys.exit(0 if answered else 1)
