"""Calls everything of pinion.admin.v1 once and more, as a tool in another language would."""

import json
import os
import queue
import ssl
import threading
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from pinion.admin.v1 import admin_pb2 as pb
from pinion.admin.v1 import admin_pb2_grpc

PORT = os.environ["PORT"]
TOKEN = os.environ["ADMIN_TOKEN"]
with open(os.environ["NODE_CA"], "rb") as file:
    CA = file.read()
BEARER = (("authorization", f"Bearer {TOKEN}"),)
WAIT = 20

calls = 0


def channel():
    return grpc.secure_channel(
        f"127.0.0.1:{PORT}",
        grpc.ssl_channel_credentials(root_certificates=CA),
        options=[("grpc.max_receive_message_length", 256 << 20)],
    )


def rest(method, path, body):
    """What the proto has no call for."""
    request = urllib.request.Request(
        f"https://127.0.0.1:{PORT}{path}",
        method=method,
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
    )
    context = ssl.create_default_context(cadata=CA.decode())
    return urllib.request.urlopen(request, context=context, timeout=WAIT)


def call(method, request, metadata=BEARER):
    global calls
    calls += 1
    return method(request, metadata=metadata, timeout=WAIT)


def refused(method, request, code, word, metadata=BEARER):
    try:
        call(method, request, metadata)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        found = (error.code(), trailers.get("pinion-error-code"))
        assert found == (code, word), (found, error.details())
        return trailers
    raise AssertionError(f"{word} was expected")


def main():
    with channel() as one:
        admin = admin_pb2_grpc.AdminStub(one)
        health = health_pb2_grpc.HealthStub(one)
        serving = health_pb2.HealthCheckResponse.SERVING
        for service in ("", "pinion.admin.v1.Admin"):
            answer = call(health.Check, health_pb2.HealthCheckRequest(service=service), ())
            assert answer.status == serving, answer
        services = reflected(one)
        assert "pinion.admin.v1.Admin" in services, services
        assert "grpc.health.v1.Health" in services, services

        rest("POST", "/v1/tenants", {"name": "acme"})
        rest("POST", "/v1/tenants/acme/namespaces", {"name": "pay"})
        everything(admin)
        refusals(admin)
    print(f"fact: calls over gRPC: {calls}")
    print(f"{calls} calls by grpcio {grpc.__version__}: each was answered as it should be")


def reflected(one):
    """The services that the server says it has; asked by hand, as the service is v1."""
    ask = one.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(ask(iter([request]), metadata=BEARER, timeout=WAIT))
    return [one.name for one in answer.list_services_response.service]


def everything(admin):
    capacity = pb.BrokerCapacity(max_shards=100, max_connections=100)
    registered = call(
        admin.RegisterBroker,
        pb.RegisterBrokerRequest(
            broker_id="outside",
            address="localhost:4433",
            capacity=capacity,
            metadata={"rack": "7"},
            incarnation=7,
        ),
    )
    assert registered.broker.name == "outside" and registered.broker.status == pb.ACTIVE
    told = call(
        admin.ReportHealth,
        pb.ReportHealthRequest(
            broker_id="outside",
            status=pb.HealthStatus(healthy=True, uptime_seconds=1),
            metrics=pb.BrokerMetrics(connections=1),
            incarnation=7,
        ),
    )
    assert told.next_ms > 0 and told.status == pb.ACTIVE, told

    snapshot = call(admin.GetSnapshot, pb.GetSnapshotRequest())
    assert len(snapshot.cluster_id) == 16
    names = {tenant.name for tenant in snapshot.metadata.tenants}
    assert {"acme", "default"} <= names, names
    brokers = {broker.number: broker.name for broker in snapshot.metadata.brokers}
    updates = follow(admin, snapshot)

    created = call(
        admin.CreateStream,
        pb.CreateStreamRequest(
            tenant_id="acme",
            namespace="pay",
            stream="eu/orders",
            spec=pb.StreamSpec(
                shards=4,
                replication_factor=2,
                durability=pb.EPHEMERAL,
                retention=pb.RetentionPolicy(time_ms=60_000),
            ),
        ),
    )
    assert created.stream.spec.shards == 4 and created.stream.spec.ring_bytes > 0
    first = updates.get(timeout=WAIT)
    assert first.version == snapshot.version + 1, first
    assert first.type == pb.CREATE and first.stream.name == "eu/orders", first
    placed = updates.get(timeout=WAIT)
    assert len(placed.placement.placements) == 4, placed
    copy = placed.placement.placements[0].replicas[0]

    listed = call(
        admin.ListStreams,
        pb.ListStreamsRequest(tenant_id="acme", namespace="pay", filter="name^=eu/", page_size=1),
    )
    assert [stream.name for stream in listed.streams] == ["eu/orders"]
    tried = call(
        admin.RebalanceShards,
        pb.RebalanceShardsRequest(
            tenant_id="acme",
            namespace="pay",
            stream="eu/orders",
            strategy=pb.LOCALITY_AWARE,
            dry_run=True,
        ),
    )
    assert tried.status == pb.REBALANCE_DRY_RUN
    moved = call(
        admin.TransferShardLeadership,
        pb.TransferShardLeadershipRequest(
            stream_id="acme/pay/eu/orders", shard_id=0, target_broker=brokers[copy]
        ),
    )
    assert [move.to_broker for move in moved.moves] == [brokers[copy]]
    deleted = call(
        admin.DeleteStream,
        pb.DeleteStreamRequest(tenant_id="acme", namespace="pay", stream="eu/orders", force=True),
    )
    version = placed.version
    while version < deleted.version:
        update = updates.get(timeout=WAIT)
        version += 1
        assert update.version == version, (update, version)


def follow(admin, snapshot):
    """The updates after a snapshot."""
    global calls
    calls += 1
    request = pb.WatchUpdatesRequest(
        from_version=snapshot.version, cluster_id=snapshot.cluster_id
    )
    stream = admin.WatchUpdates(request, metadata=BEARER)
    updates = queue.Queue()

    def read():
        try:
            for update in stream:
                updates.put(update)
        except grpc.RpcError:
            pass  # The channel was closed.

    threading.Thread(target=read, daemon=True).start()
    return updates


def refusals(admin):
    create = pb.CreateStreamRequest(tenant_id="acme", namespace="pay", stream="twice")
    call(admin.CreateStream, create)
    refused(admin.CreateStream, create, grpc.StatusCode.ALREADY_EXISTS, "exists")
    nobody = grpc.StatusCode.UNAUTHENTICATED
    refused(admin.CreateStream, create, nobody, "unauthenticated", ())
    guess = (("authorization", "Bearer guess"),)
    refused(admin.CreateStream, create, nobody, "unauthenticated", guess)
    nowhere = pb.ListStreamsRequest(tenant_id="nobody", namespace="pay")
    refused(admin.ListStreams, nowhere, grpc.StatusCode.NOT_FOUND, "not_found")
    auto = pb.RegisterBrokerRequest(broker_id="auto")
    refused(admin.RegisterBroker, auto, grpc.StatusCode.INVALID_ARGUMENT, "bad_name")
    gone = pb.GetSnapshotRequest(version=1)
    early = grpc.StatusCode.FAILED_PRECONDITION
    trailers = refused(admin.GetSnapshot, gone, early, "resnapshot_required")
    assert json.loads(trailers["pinion-error-details-bin"])["newest_version"] > 1


main()
