"""Reads a loaded node's metrics in both formats and holds them against what they promise."""

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

# Longest until a loaded node has told everything that it must.
PATIENCE = 60
API = f"https://127.0.0.1:{os.environ['PORT']}"
TLS = ssl.create_default_context(cafile=os.environ["NODE_CA"])
OPENMETRICS = "application/openmetrics-text;version=1.0.0"

# What load of every kind leaves behind; each grows, or is more than nothing.
TOLD = [
    'pinion_core_busy_seconds_total{core="0"}',
    'pinion_requests_total{op="publish"}',
    'pinion_requests_total{op="cache_get"}',
    'pinion_requests_total{op="queue_take"}',
    'pinion_message_latency_seconds_count{op="publish"}',
    'pinion_message_latency_seconds_count{op="cache_read"}',
    'pinion_message_latency_seconds_count{op="queue_put"}',
    "pinion_messages_received_total",
    "pinion_messages_sent_total",
    "pinion_disk_write_latency_seconds_count",
    "pinion_log_group_records_count",
    "pinion_handshakes_accepted_total",
    "pinion_cache_hits_total",
    "pinion_queue_acked_total",
    'pinion_subscriptions{kind="stream"}',
    'pinion_resource_messages_received_total{kind="stream",tenant="default",namespace="bench",name="publish"}',
    'pinion_resource_durable_bytes{kind="stream",tenant="default",namespace="bench",name="publish"}',
    "pinion_storage_free_bytes",
    "pinion_raft_term",
    "pinion_metadata_version",
    "process_resident_memory_bytes",
]


def ask(path, accept=None, token=os.environ["ADMIN_TOKEN"]):
    """The status, the media type and the text of an answer."""
    headers = {"accept": accept} if accept else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(API + path, headers=headers)
    try:
        with urllib.request.urlopen(request, context=TLS, timeout=20) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


def series(text):
    """The value of each series by its name and labels."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def counters(text):
    """Names of the families that only grow."""
    return set(re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE))


def main():
    status, media, _ = ask("/metrics", token=None)
    assert status == 401, status
    begun = time.monotonic()
    while True:
        status, media, text = ask("/metrics")
        assert status == 200, text
        assert media == "text/plain; version=0.0.4; charset=utf-8", media
        values = series(text)
        missing = [name for name in TOLD if values.get(name, 0) <= 0]
        if not missing:
            break
        assert time.monotonic() - begun < PATIENCE, f"not told: {missing}\n{text}"
        time.sleep(0.5)
    checked = subprocess.run(
        [os.environ["PROMTOOL"], "check", "metrics"],
        input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert checked.returncode == 0, checked.stdout.decode()

    # What was counted before is never less later.
    time.sleep(1.5)
    status, media, later = ask("/metrics")
    assert status == 200, later
    then = series(later)
    grown = 0
    for name, value in values.items():
        if name.split("{")[0] in counters(text):
            assert then[name] >= value, f"{name} was {value} and is {then[name]}"
            grown += then[name] > value
    assert grown > 10, f"{grown} counters grew under load"

    status, media, text = ask("/metrics", accept=OPENMETRICS)
    assert status == 200, text
    assert media == "application/openmetrics-text; version=1.0.0; charset=utf-8", media
    assert text.endswith("\n# EOF\n"), text[-200:]
    for path, word in [("/livez", "ok"), ("/healthz", "ok"), ("/readyz", "ready"),
                       ("/startupz", "started"), ("/health", "healthy")]:
        status, _, body = ask(path, token=None)
        assert (status, json.loads(body)["status"]) == (200, word), f"{path}: {status} {body}"

    took = []
    for _ in range(10):
        time.sleep(0.15)
        begun = time.monotonic()
        ask("/metrics")
        took.append(time.monotonic() - begun)
    families = len(re.findall(r"^# TYPE ", later, re.MULTILINE))
    print(f"fact: families of metrics: {families}")
    print(f"fact: series of metrics: {len(then)}")
    print(f"{families} families, {len(then)} series, {len(later)} bytes; "
          f"a scrape takes {sorted(took)[len(took) // 2] * 1000:.1f} ms with its TLS handshake")


if __name__ == "__main__":
    sys.exit(main())
