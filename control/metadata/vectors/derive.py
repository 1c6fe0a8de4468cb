#!/usr/bin/env python3
"""Derives the golden bytes in this folder from docs/metadata-format.md.

It shares nothing with the crate: the checksum is computed bit by bit, and every
archive is laid out by the rules of the document's section 3. Run it in this
folder to write the .json files again; `tests/all/vectors.rs` compares the crate
with them.

A line of "hex" is bytes, a space, and what they are; `00*440` is 440 times 00.
"""
import json


def crc32c(data, crc=0):
    """CRC-32C (RFC 3720 appendix B.4), a bit at a time."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def le(value, size):
    return value.to_bytes(size, "little")


# ------------------------------------------------------------- types of an archive
# Each has a size and an alignment; `ahead` writes what stands before it and gives
# what `place` needs to write the thing itself.


class Archive:
    def __init__(self):
        self.fields = []

    def here(self):
        return sum(len(data) for data, _ in self.fields)

    def raw(self, data, name):
        if data:
            self.fields.append((bytes(data), name))

    def align(self, to):
        self.raw(bytes(-self.here() % to), "zero")


class Number:
    def __init__(self, size):
        self.size = self.align = size

    def ahead(self, archive, value, name):
        return None

    def place(self, archive, value, name, resolver):
        archive.raw(le(value, self.size), f"{name} {value}")


class Bytes:
    """A fixed number of bytes."""
    align = 1

    def __init__(self, size):
        self.size = size

    def ahead(self, archive, value, name):
        assert len(value) == self.size
        return None

    def place(self, archive, value, name, resolver):
        archive.raw(value, name)


class List:
    """The elements stand before; here are a pointer to them and their count."""
    size, align = 8, 4

    def __init__(self, element):
        self.element = element

    def ahead(self, archive, value, name):
        if isinstance(value, Archive):
            # Bytes that are an archive of their own.
            at = archive.here()
            archive.fields += value.fields
            return at
        if self.element is BYTE:
            at = archive.here()
            text = value.isascii() and value.decode().isprintable()
            archive.raw(value, f"{name} {value.decode()!r}" if text else name)
            return at
        one = name.removesuffix("s")
        resolvers = [self.element.ahead(archive, v, one) for v in value]
        archive.align(self.element.align)
        at = archive.here()
        for v, resolver in zip(value, resolvers):
            self.element.place(archive, v, one, resolver)
        return at

    def place(self, archive, value, name, at):
        distance = at - archive.here()
        count = value.here() if isinstance(value, Archive) else len(value)
        archive.raw(distance.to_bytes(4, "little", signed=True), f"{name}: pointer {distance}")
        archive.raw(le(count, 4), f"{name}: count {count}")


class Optional:
    """A tag, 0 or 1, zeros up to the alignment, and the thing or zeros."""

    def __init__(self, inner):
        self.inner = inner
        self.align = max(1, inner.align)
        self.size = self.align + inner.size

    def ahead(self, archive, value, name):
        return None if value is None else self.inner.ahead(archive, value[0], name)

    def place(self, archive, value, name, resolver):
        if value is None:
            archive.raw(bytes(self.size), f"{name}: none")
        else:
            archive.raw(b"\1", f"{name}: some")
            archive.raw(bytes(self.align - 1), "zero")
            self.inner.place(archive, value[0], name, resolver)


class Struct:
    """Field after field, each at its alignment."""

    def __init__(self, **fields):
        self.fields = fields
        self.align = max((kind.align for kind in fields.values()), default=1)
        end = 0
        for kind in fields.values():
            end += -end % kind.align + kind.size
        self.size = end + -end % self.align

    def ahead(self, archive, value, name):
        assert list(value) == list(self.fields), (list(value), list(self.fields))
        return {f: kind.ahead(archive, value[f], f) for f, kind in self.fields.items()}

    def place(self, archive, value, name, resolvers):
        start = archive.here()
        for f, kind in self.fields.items():
            archive.raw(bytes(-(archive.here() - start) % kind.align), "zero")
            kind.place(archive, value[f], f, resolvers[f])
        archive.raw(bytes(self.size - (archive.here() - start)), "zero")


def archive_of(kind, value):
    archive = Archive()
    resolver = kind.ahead(archive, value, "")
    archive.align(kind.align)
    kind.place(archive, value, "", resolver)
    return archive


def data_of(archive):
    return b"".join(data for data, _ in archive.fields)


def lines_of(fields):
    lines = []
    for data, name in fields:
        if len(data) > 32 and len(set(data)) == 1:
            lines.append(f"{data[0]:02x}*{len(data)} {name}")
        else:
            lines.append(f"{data.hex()} {name}")
    return lines


# ------------------------------------------------------------ the document's tables

BYTE, U16, U32, U64 = Number(1), Number(2), Number(4), Number(8)
TEXT = List(BYTE)

TENANT_QUOTAS = Struct(
    max_namespaces=U64, max_streams=U64, max_publish_rate=U64, max_storage_bytes=U64,
    max_connections=U64, max_cache_memory_bytes=U64, max_policies=U64)
ENCRYPTION = Struct(key_id=TEXT, rotation_period_ms=U64)
NAMESPACE_QUOTAS = Struct(max_streams=U64, max_publish_rate=U64)
DELETING = Struct(since=U64, purge_at=U64, cause=U64, forced=BYTE)
META = Struct(created=U64, updated=U64, version=U64, generation=U64, deleting=Optional(DELETING))
TENANT = Struct(number=U64, display_name=TEXT, description=TEXT, quotas=TENANT_QUOTAS,
                encryption=Optional(ENCRYPTION))
NAMESPACE = Struct(description=TEXT, quotas=NAMESPACE_QUOTAS)
OBJECT = Struct(key=TEXT, meta=META, body=TEXT)
REQUEST = Struct(request=Bytes(16), principal=TEXT, index=U64, version=U64, key=Optional(TEXT))
COUNTERS = Struct(tenant=U64, resource=U64, broker=U32, row=U64, member=U64, imported=U64)
QUEUE_SPEC = Struct(
    visibility_ms=U32, max_attempts=U16, ordered_by_key=BYTE, drop_expired=BYTE, max_in_flight=U32,
    consumer_in_flight=U32, backoff_min_ms=U32, backoff_max_ms=U32, messages_max=U32,
    redeliveries_per_s=U32)
RESOURCE_SPEC = Struct(
    shards=U16, durable=BYTE, overflow=BYTE, max_record_bytes=U32, ring_bytes=U64, retention_ms=U64,
    retention_bytes=U64, replication_factor=BYTE, ack=BYTE, queue=Optional(QUEUE_SPEC))
SEAT = Struct(leader=U32, replicas=List(U32), log=U16)
SHARD = Struct(seat=SEAT, epoch=U64)
RESOURCE = Struct(id=U64, spec=RESOURCE_SPEC)
MOVE = Struct(shard=U16, source=U32, to=U32, status=BYTE)
MOVE_PLAN = Struct(strategy=Optional(BYTE), requested=U64, moves=List(MOVE))
PLACEMENT = Struct(resource=U64, pinned=Optional(U32), shards=List(SHARD), plan=Optional(MOVE_PLAN))
TOMBSTONE = Struct(of=TEXT, purged=U64, pending=List(U32))
LABEL = Struct(name=TEXT, value=TEXT)
CAPACITY = Struct(max_shards=U32, max_connections=U32, cores=U16, logs=U16, memory_per_core=U64)
FACTS = Struct(address=TEXT, region=TEXT, zone=TEXT, labels=List(LABEL), capacity=CAPACITY)
BROKER = Struct(number=U32, facts=FACTS, incarnation=U64, registered=U64, draining=BYTE,
                down=Optional(U64))
POLICY = Struct(subject=TEXT, action=TEXT, object=TEXT)
GROUPING = Struct(member=TEXT, role=TEXT)
KEY_SOURCE = Struct(document=BYTE, url=TEXT)
ISSUER = Struct(audiences=List(TEXT), keys=KEY_SOURCE, algorithms=List(BYTE), subject_claim=TEXT,
                groups_claim=Optional(TEXT), clock_skew_s=U16)
API_KEY = Struct(name=TEXT, prefix=Bytes(8), digest=Bytes(32), subject=TEXT, expires=Optional(U64))
STORED_KEY = Struct(public=Bytes(32), sealed=Bytes(68))
RETIRED_KEY = Struct(key=STORED_KEY, until=U64)
SIGNING_KEYS = Struct(current=STORED_KEY, next=STORED_KEY, previous=Optional(RETIRED_KEY),
                      rotate_every_ms=U64, rotated=U64)
REVOCATION = Struct(issued_before=Optional(U64), until=U64)
BOOTSTRAP = Struct(done=U64)
MEMBER = Struct(broker=U32, role=BYTE, address=TEXT, store=Bytes(16))
SETTINGS = Struct(heartbeat_ms=U32, missed=U16, grace_ms=U64, token_life_s=U32)
SNAPSHOT = Struct(cluster=Bytes(16), version=U64, index=U64, stamp=U64, counters=COUNTERS,
                  objects=List(OBJECT), requests=List(REQUEST))

PART = Struct(kind=U16, body=TEXT)
ENVELOPE = Struct(stamp=U64, request=Bytes(16), origin=U32, expect=U64, principal=TEXT, command=PART)
CREATE_TENANT = Struct(name=TEXT, display_name=TEXT, description=TEXT, quotas=TENANT_QUOTAS,
                       encryption=Optional(ENCRYPTION))
UPDATE_TENANT = Struct(name=TEXT, display_name=Optional(TEXT), description=Optional(TEXT),
                       quotas=Optional(TENANT_QUOTAS), encryption=Optional(Optional(ENCRYPTION)))
CREATE_NAMESPACE = Struct(tenant=TEXT, name=TEXT, description=TEXT, quotas=NAMESPACE_QUOTAS)
UPDATE_NAMESPACE = Struct(tenant=TEXT, name=TEXT, description=Optional(TEXT),
                          quotas=Optional(NAMESPACE_QUOTAS))

DECLARE = Struct(kind=BYTE, tenant=TEXT, namespace=TEXT, name=TEXT, spec=RESOURCE_SPEC,
                 seats=List(SEAT), pinned=Optional(U32), create_namespace=BYTE, if_exists=BYTE)
IMPORTED = Struct(id=U64, tenant=U64, kind=BYTE, namespace=TEXT, name=TEXT, spec=RESOURCE_SPEC,
                  logs=List(U16))
IMPORT = Struct(broker=U32, since=U64, upto=U64, next=U64, resources=List(IMPORTED))
UPDATE_RESOURCE = Struct(
    kind=BYTE, tenant=TEXT, namespace=TEXT, name=TEXT, overflow=Optional(BYTE),
    max_record_bytes=Optional(U32), retention_ms=Optional(U64), retention_bytes=Optional(U64),
    queue=Optional(QUEUE_SPEC))

REBALANCE = Struct(key=TEXT, strategy=BYTE)
TRANSFER_LEADERSHIP = Struct(key=TEXT, shard=U16, to=U32)
DELETE_FACTS = Struct(subscribers=U32, durable_bytes=U64)
DELETE = Struct(key=TEXT, force=BYTE, grace_ms=U64, facts=DELETE_FACTS)
OF_OBJECT = Struct(key=TEXT)
CONFIRM_PURGED = Struct(broker=U32, resources=List(U64))
OF_RESOURCE = Struct(resource=U64)
REGISTER_BROKER = Struct(name=TEXT, facts=FACTS, incarnation=U64, gone=Optional(U64))
SET_DRAINING = Struct(name=TEXT, draining=BYTE)
BROKER_DOWN = Struct(name=TEXT, incarnation=U64)
ADD_MEMBER = Struct(broker=U32, observer=BYTE, address=TEXT, store=Bytes(16))
REPLACE_MEMBER = Struct(member=U64, address=TEXT, store=Bytes(16))
SET_MEMBER_ROLE = Struct(member=U64, role=BYTE)
OF_MEMBER = Struct(member=U64)
UPDATE_SETTINGS = Struct(heartbeat_ms=Optional(U32), missed=Optional(U16), grace_ms=Optional(U64),
                         token_life_s=Optional(U32))
ADD_POLICIES = Struct(tenant=TEXT, scope=List(TEXT), policies=List(POLICY))
ADD_GROUPINGS = Struct(tenant=TEXT, scope=List(TEXT), groupings=List(GROUPING))
DELETE_RULES = Struct(tenant=TEXT, scope=List(TEXT), ids=List(U64))
PUT_ISSUER = Struct(tenant=TEXT, issuer=TEXT, rules=ISSUER)
CREATE_API_KEY = Struct(tenant=TEXT, scope=List(TEXT), key=API_KEY)
NEW_KEYS = Struct(current=STORED_KEY, next=STORED_KEY, rotate_every_ms=U64)
CREATE_KEYS = Struct(tenant=TEXT, keys=NEW_KEYS)
ROTATE_KEYS = Struct(tenant=TEXT, next=STORED_KEY)
REVOKE = Struct(tenant=TEXT, what=TEXT, at=U64)
NAMED_ISSUER = Struct(issuer=TEXT, rules=ISSUER)
INITIALIZE_TENANT = Struct(tenant=TEXT, display_name=TEXT, issuers=List(NAMED_ISSUER),
                           admins=List(TEXT), keys=NEW_KEYS)
OF_NAME = Struct(name=TEXT)
ITEM = Struct(expect=U64, command=PART)
BATCH = Struct(items=List(ITEM))


def sealed(magic, archive, meta=0, version=1, flags=0, length=None, header_crc=None, crc=None):
    """A header and an archive as lines."""
    data = data_of(archive)
    head = Archive()
    head.raw(magic, "magic " + magic.decode())
    head.raw(le(version, 2), f"version {version}")
    head.raw(le(flags, 2), f"flags {flags}")
    length = len(data) if length is None else length
    head.raw(le(length, 8), f"length {length}")
    head.raw(le(meta, 8), f"meta {meta}")
    head.raw(le(crc32c(data) if crc is None else crc, 4), "checksum of the archive")
    head.raw(le(crc32c(data_of(head)) if header_crc is None else header_crc, 4), "checksum of the header")
    return head.fields + archive.fields


# ---------------------------------------------------------------------- the vectors

def quotas(**over):
    return {field: over.get(field, 0) for field in TENANT_QUOTAS.fields}


def ns_quotas(**over):
    return {field: over.get(field, 0) for field in NAMESPACE_QUOTAS.fields}


STREAM, CACHE, QUEUE = 1, 2, 3


def spec(**over):
    whole = {"shards": 1, "durable": 0, "overflow": 2, "max_record_bytes": 1 << 20,
             "ring_bytes": 1 << 20, "retention_ms": 0, "retention_bytes": 0, "replication_factor": 1,
             "ack": 0, "queue": None}
    whole.update(over)
    return whole


QUEUE_PART = {"visibility_ms": 30_000, "max_attempts": 5, "ordered_by_key": 1, "drop_expired": 0,
              "max_in_flight": 65_536, "consumer_in_flight": 4_096, "backoff_min_ms": 100,
              "backoff_max_ms": 60_000, "messages_max": 1_000_000, "redeliveries_per_s": 10_000}
DURABLE = spec(shards=2, durable=1, overflow=1, retention_ms=604_800_000, retention_bytes=1 << 30,
               replication_factor=3, ack=1)


def seat(leader, replicas=(), log=0):
    return {"leader": leader, "replicas": list(replicas), "log": log}


def command(name, kind, struct, body, stamp=1_700_000_000_000, request=bytes(16), origin=0,
            expect=0, principal=b"p:ana"):
    part = {"kind": kind, "body": archive_of(struct, body) if struct else b""}
    archive = archive_of(ENVELOPE, {
        "stamp": stamp, "request": request, "origin": origin, "expect": expect,
        "principal": principal, "command": part})
    return {"name": name, "hex": lines_of(sealed(b"PMC1", archive))}


def facts(address=b"localhost:7420", region=b"", zone=b"", labels=()):
    return {"address": address, "region": region, "zone": zone,
            "labels": [{"name": name, "value": value} for name, value in labels],
            "capacity": {"max_shards": 10_000, "max_connections": 1_000, "cores": 2, "logs": 4,
                         "memory_per_core": 1 << 30}}


FACTS_OF_TWO = facts(b"[::1]:7420", b"eu", b"eu-1", [(b"disk", b"nvme"), (b"rack", b"")])
def issuer_rules(**over):
    whole = {"audiences": [b"api://pinion"], "keys": {"document": 1, "url": b"https://keys.example.com/"},
             "algorithms": bytes([1, 9]), "subject_claim": b"sub", "groups_claim": None, "clock_skew_s": 60}
    whole.update(over)
    return whole


def api_key(**over):
    whole = {"name": b"ci", "prefix": b"dead0001", "digest": bytes([7] * 32), "subject": b"p:ci",
             "expires": None}
    whole.update(over)
    return whole


def signing(byte):
    return {"public": bytes([byte] * 32), "sealed": bytes([byte + 128] * 68)}


ISSUER_URL = b"https://login.example.com/acme/v2.0"
WITH_GROUPS = issuer_rules(
    audiences=[b"a", b"b"], keys={"document": 0, "url": b"https://d.example.com/x"}, algorithms=bytes([7]),
    groups_claim=(b"groups",), clock_skew_s=300)
NEW = {"current": signing(1), "next": signing(2), "rotate_every_ms": 2_592_000_000}
REQUEST_ID = bytes(range(16))
COMMANDS = [
    command("nothing", 1, None, None, principal=b""),
    command("a tenant with everything", 10, CREATE_TENANT, {
        "name": b"acme", "display_name": b"ACME Corporation", "description": "Grüße".encode(),
        "quotas": quotas(max_namespaces=1, max_streams=2, max_publish_rate=3, max_storage_bytes=4,
                         max_connections=5, max_cache_memory_bytes=6, max_policies=7),
        "encryption": ({"key_id": b"key-1", "rotation_period_ms": 7_776_000_000},)},
        request=REQUEST_ID, origin=3, expect=1),
    command("a tenant with nothing", 10, CREATE_TENANT, {
        "name": b"t", "display_name": b"", "description": b"", "quotas": quotas(), "encryption": None}),
    command("a tenant without its key", 11, UPDATE_TENANT, {
        "name": b"acme", "display_name": None, "description": None, "quotas": None,
        "encryption": (None,)}, expect=44),
    command("a tenant changed all over", 11, UPDATE_TENANT, {
        "name": b"acme", "display_name": (b"A",), "description": (b"",),
        "quotas": (quotas(max_streams=9),),
        "encryption": (({"key_id": b"k", "rotation_period_ms": 0},),)}),
    command("a namespace", 20, CREATE_NAMESPACE, {
        "tenant": b"acme", "name": b"Pay.1", "description": b"payments",
        "quotas": ns_quotas(max_streams=500, max_publish_rate=50_000)}),
    command("a namespace changed", 21, UPDATE_NAMESPACE, {
        "tenant": b"acme", "name": b"Pay.1", "description": None,
        "quotas": (ns_quotas(max_streams=5),)}),
    command("a stream of two shards", 30, DECLARE, {
        "kind": STREAM, "tenant": b"acme", "namespace": b"pay", "name": b"eu/orders", "spec": DURABLE,
        "seats": [seat(1, [2, 3], 0), seat(2, [1, 3], 1)], "pinned": None, "create_namespace": 1,
        "if_exists": 0}),
    command("a queue on one broker", 30, DECLARE, {
        "kind": QUEUE, "tenant": b"default", "namespace": b"n", "name": b"q",
        "spec": spec(queue=(QUEUE_PART,)), "seats": [seat(7, log=65_533)], "pinned": (7,),
        "create_namespace": 0, "if_exists": 1}),
    command("a stream kept longer", 31, UPDATE_RESOURCE, {
        "kind": STREAM, "tenant": b"acme", "namespace": b"pay", "name": b"eu/orders",
        "overflow": (4,), "max_record_bytes": (65_536,), "retention_ms": (1,), "retention_bytes": (2,),
        "queue": None}),
    command("a queue that gives up later", 31, UPDATE_RESOURCE, {
        "kind": QUEUE, "tenant": b"default", "namespace": b"n", "name": b"q", "overflow": None,
        "max_record_bytes": None, "retention_ms": None, "retention_bytes": None,
        "queue": ({**QUEUE_PART, "max_attempts": 50},)}),
    command("a plan", 32, REBALANCE, {"key": b"stream/acme/pay/eu/orders", "strategy": 2}),
    command("a plan that is not wanted any more", 33, OF_OBJECT, {"key": b"stream/acme/pay/eu/orders"}),
    command("another leader", 34, TRANSFER_LEADERSHIP, {
        "key": b"stream/acme/pay/eu/orders", "shard": 1, "to": 3}),
    command("a deletion by force", 40, DELETE, {
        "key": b"namespace/acme/pay", "force": 1, "grace_ms": 0,
        "facts": {"subscribers": 3, "durable_bytes": 1 << 40}}),
    command("a deletion taken back", 41, OF_OBJECT, {"key": b"stream/acme/pay/eu/orders"}),
    command("an end", 42, OF_OBJECT, {"key": b"tenant/acme"}),
    command("data that is gone", 43, CONFIRM_PURGED, {"broker": 7, "resources": [1, 1 << 40]}),
    command("data that nobody waits for", 44, OF_RESOURCE, {"resource": 5}),
    command("resources from before", 35, IMPORT, {
        "broker": 1, "since": 3, "upto": 9, "next": 1 << 40, "resources": [
            {"id": 4, "tenant": 1, "kind": 1, "namespace": b"pay", "name": b"eu/orders",
             "spec": DURABLE, "logs": [0, 1]},
            {"id": 7, "tenant": 1 << 40, "kind": 2, "namespace": b"pay", "name": b"hot",
             "spec": spec(), "logs": [5]}]}),
    command("no more resources from before", 35, IMPORT, {
        "broker": 1, "since": 0, "upto": 1, "next": 1, "resources": []}),
    command("a broker that is new", 50, REGISTER_BROKER, {
        "name": b"b1", "facts": facts(), "incarnation": 1, "gone": None}),
    command("a broker in a new life", 50, REGISTER_BROKER, {
        "name": b"b2", "facts": FACTS_OF_TWO, "incarnation": 1 << 63, "gone": (7,)}),
    command("a broker that drains", 51, SET_DRAINING, {"name": b"b2", "draining": 1}),
    command("a broker that was missed", 52, BROKER_DOWN, {"name": b"b2", "incarnation": 1 << 63}),
    command("a broker that is gone", 53, OF_NAME, {"name": b"b2"}),
    command("a member that will vote", 54, ADD_MEMBER, {
        "broker": 1, "observer": 0, "address": b"node-1:7420", "store": bytes(range(16))}),
    command("a member that never votes", 54, ADD_MEMBER, {
        "broker": 3, "observer": 1, "address": b"[::1]:7420", "store": bytes(16)}),
    command("a member that lost its disk", 55, REPLACE_MEMBER, {
        "member": 1 << 40, "address": b"node-1:7420", "store": bytes(range(16))}),
    command("a member that votes", 56, SET_MEMBER_ROLE, {"member": 1, "role": 2}),
    command("a member that is none any more", 57, OF_MEMBER, {"member": 2}),
    command("policies", 60, ADD_POLICIES, {
        "tenant": b"acme", "scope": [b"namespace:acme/a", b"stream:acme/*"], "policies": [
            {"subject": b"role:reader", "action": b"stream.*", "object": b"stream:acme/a/eu/*"},
            {"subject": b"g:staff", "action": b"*", "object": b"namespace:acme/a"}]}),
    command("policies that are not wanted any more", 61, DELETE_RULES, {
        "tenant": b"acme", "scope": [b"cluster"], "ids": [2, 1 << 40]}),
    command("groupings", 62, ADD_GROUPINGS, {
        "tenant": b"acme", "scope": [b"tenant:acme"], "groupings": [
            {"member": b"p:ana@example.com", "role": b"reader"}]}),
    command("groupings that are not wanted any more", 63, DELETE_RULES, {
        "tenant": b"acme", "scope": [], "ids": [3]}),
    command("an identity provider", 70, PUT_ISSUER, {
        "tenant": b"acme", "issuer": ISSUER_URL, "rules": issuer_rules()}),
    command("an identity provider with groups", 70, PUT_ISSUER, {
        "tenant": b"acme", "issuer": ISSUER_URL, "rules": WITH_GROUPS}),
    command("an API key", 71, CREATE_API_KEY, {
        "tenant": b"acme", "scope": [b"tenant:acme"], "key": api_key(expires=(1_800_000_000_000,))}),
    command("an API key that is not wanted any more", 72, OF_OBJECT, {"key": b"apikey/acme/7"}),
    command("an identity provider that is not believed any more", 72, OF_OBJECT, {
        "key": b"issuer/acme/" + ISSUER_URL}),
    command("the first keys of a tenant", 73, CREATE_KEYS, {"tenant": b"acme", "keys": NEW}),
    command("the next key of a tenant", 74, ROTATE_KEYS, {"tenant": b"acme", "next": signing(3)}),
    command("a token that counts no more", 75, REVOKE, {
        "tenant": b"acme", "what": REQUEST_ID.hex().encode(), "at": 1_700_000_900_000}),
    command("a subject whose tokens count no more", 75, REVOKE, {
        "tenant": b"acme", "what": b"sub:p:ana", "at": 1_700_000_000_000}),
    command("a first day", 76, INITIALIZE_TENANT, {
        "tenant": b"acme", "display_name": b"New",
        "issuers": [{"issuer": ISSUER_URL, "rules": issuer_rules()}],
        "admins": [b"spiffe://x/ns/a/sa/b"], "keys": NEW}),
    command("settings", 80, UPDATE_SETTINGS, {
        "heartbeat_ms": (1_000,), "missed": (5,), "grace_ms": (86_400_000,), "token_life_s": (600,)}),
    command("settings that stay", 80, UPDATE_SETTINGS, {
        "heartbeat_ms": None, "missed": None, "grace_ms": None, "token_life_s": None}),
    command("a batch of two", 2, BATCH, {"items": [
        {"expect": 1, "command": {"kind": 20, "body": archive_of(CREATE_NAMESPACE, {
            "tenant": b"acme", "name": b"n", "description": b"", "quotas": ns_quotas()})}},
        {"expect": 0, "command": {"kind": 1, "body": b""}}]}),
]


def meta(version, created=0, updated=None, generation=1, deleting=None):
    return {"created": created, "updated": created if updated is None else updated,
            "version": version, "generation": generation, "deleting": deleting}


def deleting(since, purge_at, cause, forced=0):
    return ({"since": since, "purge_at": purge_at, "cause": cause, "forced": forced},)


def stored(key, version, kind, body, created=0, updated=None, generation=1, deleting=None):
    return {"key": key, "meta": meta(version, created, updated, generation, deleting),
            "body": archive_of(kind, body)}


def tenant(name, number, version=0, display=b"", quota=None, encryption=None, **over):
    return stored(b"tenant/" + name, version, TENANT, {
        "number": number, "display_name": display, "description": b"",
        "quotas": quota or quotas(), "encryption": encryption}, **over)


def namespace(of, name, version, at=0, quota=None, **over):
    return stored(b"namespace/%s/%s" % (of, name), version, NAMESPACE, {
        "description": b"", "quotas": quota or ns_quotas()}, at, **over)


def resource(version, path, id, what, at=0):
    return stored(path, version, RESOURCE, {"id": id, "spec": what}, at)


def move(shard, source, to, status=0):
    return {"shard": shard, "source": source, "to": to, "status": status}


def plan(strategy, at, *moves):
    return ({"strategy": strategy, "requested": at, "moves": list(moves)},)


def placement(version, path, id, seats, at=0, pinned=None, epoch=1, planned=None, **over):
    shards = [{"seat": one, "epoch": epoch} for one in seats]
    return stored(b"placement/" + path, version, PLACEMENT, {
        "resource": id, "pinned": pinned, "shards": shards, "plan": planned}, at, **over)


def tombstone(version, id, of, at, pending, generation=1):
    return stored(b"tombstone/%d" % id, version, TOMBSTONE, {
        "of": of, "purged": at, "pending": pending}, at, None, generation)


def broker(number, version, name=None, what=None, down=None, draining=0, incarnation=1, at=0, **over):
    return stored(b"broker/" + (name or b"b%d" % number), version, BROKER, {
        "number": number, "facts": what or facts(), "incarnation": incarnation, "registered": at,
        "draining": draining, "down": down}, **over)


def policy(id, version, subject, action, object, of=b"acme", **over):
    return stored(b"policy/%s/%d" % (of, id), version, POLICY, {
        "subject": subject, "action": action, "object": object}, **over)


def grouping(id, version, member, role, of=b"acme", **over):
    return stored(b"grouping/%s/%d" % (of, id), version, GROUPING, {"member": member, "role": role}, **over)


def issuer(version, rules=None, of=b"acme", url=ISSUER_URL, **over):
    return stored(b"issuer/%s/%s" % (of, url), version, ISSUER, rules or issuer_rules(), **over)


def machine(id, version, key=None, of=b"acme", **over):
    return stored(b"apikey/%s/%d" % (of, id), version, API_KEY, key or api_key(), **over)


def keys(version, current, next, previous=None, every=2_592_000_000, rotated=0, of=b"acme", **over):
    return stored(b"keys/" + of, version, SIGNING_KEYS, {
        "current": signing(current), "next": signing(next), "previous": previous,
        "rotate_every_ms": every, "rotated": rotated}, **over)


def revocation(version, what, issued_before, until, of=b"acme", **over):
    return stored(b"revocation/%s/%s" % (of, what), version, REVOCATION, {
        "issued_before": issued_before, "until": until}, **over)


def member(number, version, of, role, address=b"node-1:7420", store=bytes(range(16)), **over):
    return stored(b"member/%d" % number, version, MEMBER, {
        "broker": of, "role": role, "address": address, "store": store}, **over)


def counters(tenant=2, resource=1, broker=1, row=1, member=1, imported=0):
    return {"tenant": tenant, "resource": resource, "broker": broker, "row": row, "member": member,
            "imported": imported}


def state(**over):
    whole = {"cluster": bytes(range(16, 32)), "version": 0, "index": 0, "stamp": 0,
             "counters": counters(), "objects": [tenant(b"default", 1)],
             "requests": []}
    whole.update(over)
    return whole


DEFAULT = tenant(b"default", 1)


IDENTITY = 1_700_000_000_980
ADMIN = [b"tenant.manage", b"ns.manage", b"rbac.*", b"stream.manage", b"queue.manage", b"cache.manage",
         b"schedule.manage", b"flag.manage"]
FULL = state(
    version=46, index=24, stamp=1_700_000_001_000, counters=counters(3, 4, 5, 14, 4),
    objects=[
        tenant(b"acme", 2, version=9, created=1_700_000_000_000, updated=1_700_000_000_500,
               generation=2, display=b"ACME", quota=quotas(max_namespaces=2, max_streams=10),
               encryption=({"key_id": b"key-1", "rotation_period_ms": 0},)),
        DEFAULT,
        namespace(b"acme", b"a", 6, 1_700_000_000_000, ns_quotas(max_streams=10)),
        namespace(b"acme", b"b", 7, 1_700_000_000_100),
        namespace(b"default", b"a", 45, 1_700_000_000_100, updated=1_700_000_001_000,
                  deleting=deleting(1_700_000_001_000, 1_700_604_801_000, 23)),
        resource(10, b"stream/acme/a/eu/orders", 1, DURABLE, 1_700_000_000_600),
        resource(12, b"queue/acme/a/q", 2, spec(queue=(QUEUE_PART,)), 1_700_000_000_600),
        placement(22, b"stream/acme/a/eu/orders", 1, [seat(1, [2, 3], 0), seat(2, [1, 3], 1)],
                  1_700_000_000_600, updated=1_700_000_000_960, generation=2,
                  planned=plan(None, 1_700_000_000_960, move(1, 2, 3))),
        placement(13, b"queue/acme/a/q", 2, [seat(4, log=9)], 1_700_000_000_600, (4,)),
        tombstone(20, 3, b"stream/default/a/gone", 1_700_000_000_900, [2, 3], 2),
        broker(1, 1, at=1_700_000_000_000, created=1_700_000_000_000),
        broker(2, 21, what=FACTS_OF_TWO, down=(1_700_000_000_950,), draining=1, incarnation=1 << 63,
               at=1_700_000_000_000, created=1_700_000_000_000, updated=1_700_000_000_950, generation=3),
        broker(3, 3, at=1_700_000_000_000, created=1_700_000_000_000),
        broker(4, 4, at=1_700_000_000_000, created=1_700_000_000_000),
        policy(1, 23, b"role:reader", b"stream.*", b"stream:acme/a/eu/*", created=1_700_000_000_970),
        policy(2, 24, b"g:staff", b"*", b"namespace:acme/a", created=1_700_000_000_970),
        *[policy(4 + at, 26 + at, b"role:admin", action, b"tenant:acme", created=IDENTITY)
          for at, action in enumerate(ADMIN)],
        grouping(3, 25, b"p:ana@example.com", b"reader", created=1_700_000_000_970),
        grouping(12, 34, b"spiffe://x/ns/a/sa/b", b"admin", created=IDENTITY),
        issuer(38, WITH_GROUPS, created=IDENTITY, updated=IDENTITY + 10, generation=2),
        machine(13, 39, api_key(expires=(1_800_000_000_000,)), created=IDENTITY + 10),
        keys(40, 2, 3, ({"key": signing(1), "until": IDENTITY + 10 + 3_630_000},), rotated=IDENTITY + 10,
             created=IDENTITY, updated=IDENTITY + 10, generation=2),
        revocation(41, REQUEST_ID.hex().encode(), None, 1_700_000_930_000, created=IDENTITY + 10),
        revocation(42, b"sub:p:ana", (1_700_000_000_000,), IDENTITY + 10 + 3_630_000, created=IDENTITY + 10),
        stored(b"bootstrap/acme", 37, BOOTSTRAP, {"done": IDENTITY}, created=IDENTITY),
        member(2, 43, 3, 3, b"[::1]:7420", bytes(16), created=IDENTITY + 15),
        member(3, 44, 1, 2, created=IDENTITY + 15, generation=2),
        stored(b"settings", 46, SETTINGS, {"heartbeat_ms": 1_000, "missed": 5, "grace_ms": 86_400_000,
                                           "token_life_s": 600}, created=IDENTITY + 20)],
    requests=[
        {"request": REQUEST_ID, "principal": b"p:ana", "index": 3, "version": 5,
         "key": (b"tenant/acme",)},
        {"request": REQUEST_ID, "principal": b"p:bo", "index": 11, "version": 13,
         "key": None},
        {"request": REQUEST_ID[::-1], "principal": b"p:bo", "index": 24, "version": 46,
         "key": (b"settings",)}])


def snapshot(name, whole):
    archive = archive_of(SNAPSHOT, whole)
    return {"name": name, "hex": lines_of(sealed(b"PMS1", archive, meta=whole["version"]))}


SNAPSHOTS = [snapshot("before the first command", state()), snapshot("with everything", FULL)]


# What is refused has right checksums, unless its name says otherwise: it is refused
# for what it says.

def refused(name, error, fields, decode="snapshot"):
    return {"name": name, "decode": decode, "error": error, "hex": lines_of(fields)}


def refused_state(name, error, whole, **over):
    archive = archive_of(SNAPSHOT, whole)
    over = {"meta": whole["version"], **over}
    return refused(name, error, sealed(b"PMS1", archive, **over))


def refused_command(name, error, kind, body, **over):
    archive = archive_of(ENVELOPE, {
        "stamp": 0, "request": bytes(16), "origin": 0, "expect": 0,
        "principal": over.pop("principal", b""), "command": {"kind": kind, "body": body}})
    magic = over.pop("magic", b"PMC1")
    return refused(name, error, sealed(magic, archive, **over), "command")


def changed(fields, at, byte):
    data = bytearray(b"".join(data for data, _ in fields))
    data[at] ^= byte
    return [(bytes(data), "all of it")]


GENESIS = sealed(b"PMS1", archive_of(SNAPSHOT, state()))
BODY = data_of(archive_of(CREATE_NAMESPACE, {
    "tenant": b"acme", "name": b"a", "description": b"", "quotas": ns_quotas()}))
# A list of more elements than there are bytes: the count of `objects` is the last
# word but two of the root.
LONG = archive_of(SNAPSHOT, state())
LONG.fields = [(le(1 << 30, 4), "objects: count 1073741824") if name == "objects: count 1" else (data, name)
               for data, name in LONG.fields]

def with_stream(what=None, kind=b"stream", home=True, placed=True, of=1, seats=None, epoch=1, next_id=2,
                quota=None, more=(), version=5, planned=None, pinned=None):
    """A state of one resource and the brokers 1 and 2, in which something may be wrong."""
    path = kind + b"/default/n/s"
    objects = [tenant(b"default", 1, quota=quota)]
    objects += [namespace(b"default", b"n", 1)] if home else []
    objects += [resource(2, path, 1, what or spec())]
    objects += [placement(3, path, of, [seat(1)] if seats is None else seats, epoch=epoch,
                          planned=planned, pinned=pinned)] if placed else []
    objects += [*more, broker(1, 4), broker(2, 5)]
    return state(version=version, counters=counters(2, next_id, 3), objects=objects)


def with_tombstone(one):
    return state(version=3, counters=counters(2, 2, 3), objects=[DEFAULT, one, broker(1, 2), broker(2, 3)])


def with_rules(*rules):
    return state(version=2, counters=counters(row=3), objects=[DEFAULT, *rules])


def with_members(*members):
    return state(version=3, counters=counters(broker=2, member=3), objects=[DEFAULT, broker(1, 1), *members])


REFUSED = [
    refused("31 bytes", "Short", [(bytes(31), "zero")]),
    refused_command("a snapshot is no command", "Magic", 1, b"", magic=b"PMS1"),
    refused_state("of version 2", "Version", state(), version=2),
    refused_state("with a flag", "Flags", state(), flags=1),
    refused_state("of more than 256 MiB", "TooLarge", state(), length=(256 << 20) - 31),
    refused_command("of more than 1 MiB", "TooLarge", 1, b"", length=(1 << 20) - 31),
    refused_state("of the longest length there is", "TooLarge", state(), length=(1 << 64) - 1),
    refused_state("cut short", "Length", state(), length=len(data_of(LONG)) + 1),
    refused("followed by a byte", "Length", GENESIS + [(b"\0", "one more")]),
    refused("a bit of the header flipped (checksum wrong)", "HeaderChecksum", changed(GENESIS, 16, 1)),
    refused("a bit of the archive flipped (checksum wrong)", "Checksum", changed(GENESIS, 40, 1)),
    refused_state("of another version than its header says", "Field", state(), meta=1),
    refused_command("a command whose header names a version", "Field", 1, b"", meta=1),
    refused("an archive shorter than its root", "Archive", sealed(b"PMS1", archive_of(U64, 0))),
    refused("a list longer than the archive", "Archive", sealed(b"PMS1", LONG)),
    refused_state("a version that no count reaches", "Field", state(version=(1 << 62) + 1)),
    refused_state("an index that no count reaches", "Field", state(index=(1 << 62) + 1)),
    refused_state("a next number that no count reaches", "Field",
                  state(counters=counters((1 << 62) + 1))),
    refused_state("a next resource that no count reaches", "Field",
                  state(counters=counters(2, (1 << 62) + 1))),
    refused_state("a generation that no count reaches", "Broken.Field",
                  state(objects=[tenant(b"default", 1, generation=(1 << 62) + 1)])),
    refused_command("a command of no known number", "Field", 9, b""),
    refused_command("nothing with a body", "Field", 1, b"x"),
    refused_command("a body cut short", "Archive", 20, BODY[:-8]),
    refused_command("a principal that is no text", "Text", 1, b"", principal=b"\xff"),
    refused_state("objects out of order", "Order",
                  state(version=1, counters=counters(3),
                        objects=[tenant(b"default", 1), tenant(b"acme", 2, version=1)])),
    refused_state("an object twice", "Order",
                  state(version=1, counters=counters(3),
                        objects=[tenant(b"default", 1), tenant(b"default", 2, version=1)])),
    refused_state("a name against the grammar", "Key", state(objects=[tenant(b"Default", 1)])),
    refused_state("a namespace of no tenant", "Broken.Orphan",
                  state(version=1, objects=[DEFAULT, namespace(b"acme", b"a", 1)])),
    refused_state("two objects of one version", "Broken.Version",
                  state(version=1, objects=[DEFAULT, namespace(b"default", b"a", 1), namespace(b"default", b"b", 1)])),
    refused_state("an object of a later version", "Broken.Version",
                  state(objects=[DEFAULT, namespace(b"default", b"a", 1)])),
    refused_state("a number that was not given out", "Broken.Number", state(objects=[tenant(b"default", 2)])),
    refused_state("a number given out twice", "Broken.Number",
                  state(version=1, objects=[tenant(b"acme", 1, version=1), tenant(b"default", 1)])),
    refused_state("more namespaces than the quota", "Broken.TooMany",
                  state(version=2, objects=[tenant(b"default", 1, quota=quotas(max_namespaces=1)),
                        namespace(b"default", b"a", 1), namespace(b"default", b"b", 2)])),
    refused_state("a namespace with more than its tenant", "Broken.Field",
                  state(version=1, objects=[tenant(b"default", 1, quota=quotas(max_streams=1)),
                        namespace(b"default", b"a", 1, quota=ns_quotas(max_streams=2))])),
    refused_state("a resource of a kind that there is not", "Key", with_stream(kind=b"flag")),
    refused_state("a resource with other acknowledgements", "Field", with_stream(spec(ack=2))),
    refused_state("a resource in no namespace", "Broken.Orphan", with_stream(home=False)),
    refused_state("a resource that is not placed", "Broken.Unplaced", with_stream(placed=False)),
    refused_state("a placement of nothing", "Broken.Orphan",
                  state(version=2, objects=[DEFAULT, namespace(b"default", b"n", 1),
                                            placement(2, b"stream/default/n/s", 1, [])])),
    refused_state("a placement of another resource", "Broken.Field", with_stream(of=2)),
    refused_state("a placement with a shard too few", "Broken.Field", with_stream(seats=[])),
    refused_state("a placement with a broker twice", "Broken.Field",
                  with_stream(spec(replication_factor=3), seats=[seat(1, [2, 2])])),
    refused_state("a placement with its leader twice", "Broken.Field",
                  with_stream(spec(replication_factor=3), seats=[seat(1, [1])])),
    refused_state("a placement with more copies than asked for", "Broken.Field",
                  with_stream(seats=[seat(1, [2])])),
    refused_state("a shard without an epoch", "Broken.Field", with_stream(epoch=0)),
    refused_state("a resource number that was not given out", "Broken.Number", with_stream(next_id=1)),
    refused_state("a resource without shards", "Broken.Field", with_stream(spec(shards=0), seats=[])),
    refused_state("a stream with a queue's part", "Broken.Field", with_stream(spec(queue=(QUEUE_PART,)))),
    refused_state("a queue without its part", "Broken.Field", with_stream(kind=b"queue")),
    refused_state("a durable cache", "Broken.Field", with_stream(spec(durable=1), kind=b"cache")),
    refused_state("more bytes on disk than the quota", "Broken.TooMany",
                  with_stream(spec(durable=1, retention_bytes=2), quota=quotas(max_storage_bytes=1))),
    refused_state("a namespace alive in a tenant that is deleted", "Broken.Outlives",
                  state(version=1, objects=[tenant(b"default", 1, deleting=deleting(0, 9, 0)),
                        namespace(b"default", b"n", 1)])),
    refused_state("a namespace that goes after its tenant", "Broken.Outlives",
                  state(version=1, objects=[tenant(b"default", 1, deleting=deleting(0, 9, 0)),
                        namespace(b"default", b"n", 1, deleting=deleting(0, 10, 0))])),
    refused_state("a grace that ends before it begins", "Broken.Field",
                  state(objects=[tenant(b"default", 1, deleting=deleting(9, 8, 0))])),
    refused_state("a deletion by a later entry", "Broken.Field",
                  state(objects=[tenant(b"default", 1, deleting=deleting(0, 9, 1))])),
    refused_state("a tombstone of a resource that is there", "Broken.Unburied",
                  with_stream(more=[tombstone(6, 1, b"stream/t/n/x", 0, [1])], version=6)),
    refused_state("a tombstone that waits for nobody", "Broken.Field",
                  with_tombstone(tombstone(1, 1, b"stream/t/n/x", 0, []))),
    refused_state("a tombstone that waits out of order", "Broken.Field",
                  with_tombstone(tombstone(1, 1, b"stream/t/n/x", 0, [2, 1]))),
    refused_state("a tombstone of a tenant", "Broken.Field",
                  with_tombstone(tombstone(1, 1, b"tenant/t", 0, [1]))),
    refused_state("a tombstone of a number that was not given out", "Broken.Field",
                  with_tombstone(tombstone(1, 2, b"stream/t/n/x", 0, [1]))),
    refused_state("a placement on a broker that there is not", "Broken.NoBroker", with_stream(seats=[seat(3)])),
    refused_state("a tombstone that waits for a broker that there is not", "Broken.NoBroker",
                  with_tombstone(tombstone(1, 1, b"stream/t/n/x", 0, [3]))),
    refused_state("a plan of no moves", "Broken.Field", with_stream(planned=plan((1,), 0))),
    refused_state("a plan of a shard that there is not", "Broken.Field",
                  with_stream(planned=plan((1,), 0, move(1, 1, 2)))),
    refused_state("a plan for a broker that there is not", "Broken.NoBroker",
                  with_stream(planned=plan((1,), 0, move(0, 1, 3)))),
    refused_state("a plan of no known strategy", "Field", with_stream(planned=plan((3,), 0, move(0, 1, 2)))),
    refused_state("a move of no known end", "Field", with_stream(planned=plan(None, 0, move(0, 1, 2, 2)))),
    refused_state("a pinned resource elsewhere", "Broken.Field", with_stream(pinned=(2,))),
    refused_state("a broker number that was not given out", "Broken.Number",
                  state(version=1, objects=[DEFAULT, broker(1, 1)])),
    refused_state("a broker number given out twice", "Broken.Number",
                  state(version=2, counters=counters(broker=2),
                        objects=[DEFAULT, broker(1, 1), broker(1, 2, b"other")])),
    refused_state("a broker at no address", "Broken.Field",
                  state(version=1, counters=counters(broker=2), objects=[DEFAULT, broker(1, 1, what=facts(b"a"))])),
    refused_state("a broker with labels out of order", "Broken.Field",
                  state(version=1, counters=counters(broker=2),
                        objects=[DEFAULT, broker(1, 1, what=facts(labels=[(b"b", b""), (b"a", b"")]))])),
    refused_state("a next broker that no count reaches", "Field",
                  state(counters=counters(broker=(1 << 30) + 2))),
    refused_state("a policy of another tenant", "Broken.Field",
                  with_rules(policy(1, 1, b"p:a", b"*", b"tenant:acme", b"default"))),
    refused_state("a policy over the cluster", "Broken.Field",
                  with_rules(policy(1, 1, b"p:a", b"*", b"cluster", b"default"))),
    refused_state("a policy of no tenant", "Broken.Orphan",
                  with_rules(policy(1, 1, b"p:a", b"*", b"tenant:acme"))),
    refused_state("a policy twice", "Broken.Twice",
                  with_rules(*[policy(at, at, b"p:a", b"*", b"tenant:default", b"default") for at in (1, 2)])),
    refused_state("a grouping twice", "Broken.Twice",
                  with_rules(*[grouping(at, at, b"p:a", b"r", b"default") for at in (1, 2)])),
    refused_state("a policy and a grouping of one number", "Broken.Number",
                  with_rules(policy(1, 1, b"p:a", b"*", b"tenant:default", b"default"),
                             grouping(1, 2, b"p:a", b"r", b"default"))),
    refused_state("a policy of a number that was not given out", "Broken.Number",
                  with_rules(policy(3, 1, b"p:a", b"*", b"tenant:default", b"default"))),
    refused_state("a role that leads to itself", "Broken.Field",
                  with_rules(grouping(1, 1, b"role:a", b"b", b"default"),
                             grouping(2, 2, b"role:b", b"a", b"default"))),
    refused_state("a role against the grammar", "Broken.Field",
                  with_rules(grouping(1, 1, b"p:a", b"a b", b"default"))),
    refused_state("a policy of no subject", "Subject",
                  with_rules(policy(1, 1, b"ana", b"*", b"tenant:default", b"default"))),
    refused_state("a policy of no known action", "Action",
                  with_rules(policy(1, 1, b"p:a", b"stream.fly", b"tenant:default", b"default"))),
    refused_state("a policy over every tenant", "Object",
                  with_rules(policy(1, 1, b"p:a", b"*", b"tenant:*", b"default"))),
    refused_state("a next row that no count reaches", "Field", state(counters=counters(row=(1 << 62) + 1))),
    refused_state("an issuer at no address", "Key", with_rules(issuer(1, of=b"default", url=b"acme"))),
    refused_state("an issuer for nobody", "Broken.Field",
                  with_rules(issuer(1, issuer_rules(audiences=[]), b"default"))),
    refused_state("an issuer of no algorithm", "Broken.Field",
                  with_rules(issuer(1, issuer_rules(algorithms=b""), b"default"))),
    refused_state("an issuer of no known algorithm", "Field",
                  with_rules(issuer(1, issuer_rules(algorithms=bytes([10])), b"default"))),
    refused_state("keys in no known document", "Field",
                  with_rules(issuer(1, issuer_rules(keys={"document": 2, "url": b"https://x/"}), b"default"))),
    refused_state("an API key without a name", "Broken.Field",
                  with_rules(machine(1, 1, api_key(name=b""), b"default"))),
    refused_state("an API key of a number that was not given out", "Broken.Number",
                  with_rules(machine(3, 1, of=b"default"))),
    refused_state("keys of no tenant", "Broken.Orphan", with_rules(keys(1, 1, 2))),
    refused_state("keys that change too soon", "Broken.Field", with_rules(keys(1, 1, 2, every=1, of=b"default"))),
    refused_state("a token revoked as a subject is", "Broken.Field",
                  with_rules(revocation(1, bytes(16).hex().encode(), (1,), 2, b"default"))),
    refused_state("a subject revoked as a token is", "Broken.Field",
                  with_rules(revocation(1, b"sub:p:a", None, 2, b"default"))),
    refused_state("nothing revoked", "Key", with_rules(revocation(1, b"x", None, 2, b"default"))),
    refused_state("a member on no broker", "Broken.NoBroker", with_members(member(1, 2, 2, 2))),
    refused_state("two members on a broker", "Broken.TooMany",
                  with_members(member(1, 2, 1, 2), member(2, 3, 1, 3))),
    refused_state("a member of no known role", "Field", with_members(member(1, 2, 1, 4))),
    refused_state("a member at no address", "Broken.Field", with_members(member(1, 2, 1, 1, b"x"))),
    refused_state("a member number that was not given out", "Broken.Number", with_members(member(3, 2, 1, 1))),
    refused_state("a next member that no count reaches", "Field",
                  state(counters=counters(member=(1 << 62) + 1))),
    refused_state("settings out of their ranges", "Broken.Field", state(version=1, objects=[
        DEFAULT, stored(b"settings", 1, SETTINGS, {
            "heartbeat_ms": 1_000, "missed": 0, "grace_ms": 1, "token_life_s": 600})])),
    refused_command("a batch within a batch", "Field", 2, data_of(archive_of(BATCH, {
        "items": [{"expect": 0, "command": {"kind": 2, "body": archive_of(BATCH, {"items": []})}}]}))),
    refused_command("a batch of nothing", "Field", 2, data_of(archive_of(BATCH, {"items": []}))),
    refused_command("a batch of too many", "Field", 2, data_of(archive_of(BATCH, {
        "items": [{"expect": 0, "command": {"kind": 1, "body": b""}}] * 257}))),
    refused_command("a key without its parts", "Key", 42, data_of(archive_of(OF_OBJECT, {"key": b"tenant"}))),
    refused_state("an object of generation 0", "Broken.Field",
                  state(objects=[tenant(b"default", 1, generation=0)])),
    refused_state("an object changed before it was made", "Broken.Field",
                  state(objects=[tenant(b"default", 1, created=1, updated=0)])),
    refused_state("a remembered request without a number", "Broken.Requests",
                  state(index=1, requests=[{"request": bytes(16), "principal": b"", "index": 1,
                                            "version": 0, "key": None}])),
    refused_state("a remembered request of a later entry", "Broken.Requests",
                  state(requests=[{"request": REQUEST_ID, "principal": b"", "index": 1,
                                   "version": 0, "key": None}])),
    refused_state("a request remembered twice", "Broken.Requests",
                  state(index=2, requests=[{"request": REQUEST_ID, "principal": b"p", "index": at,
                                            "version": 0, "key": None} for at in (1, 2)])),
    refused_state("a remembered request about no object", "Key",
                  state(index=1, requests=[{"request": REQUEST_ID, "principal": b"", "index": 1,
                                            "version": 0, "key": (b"realm/x",)}])),
]

for file, vectors in [("commands", COMMANDS), ("snapshots", SNAPSHOTS), ("refused", REFUSED)]:
    with open(f"{file}.json", "w") as out:
        json.dump(vectors, out, indent=2, ensure_ascii=False)
        out.write("\n")


def binary(vector):
    out = b""
    for line in vector["hex"]:
        digits, _, count = line.split(" ")[0].partition("*")
        out += bytes.fromhex(digits) * int(count or 1)
    return out


# The fuzz targets begin with what is right.
for vector in COMMANDS:
    with open(f"../fuzz/corpus/command/{vector['name'].replace(' ', '-')}", "wb") as out:
        out.write(binary(vector))
for name, vector in zip(["genesis", "everything"], SNAPSHOTS):
    with open(f"../fuzz/corpus/snapshot/{name}", "wb") as out:
        out.write(binary(vector))
