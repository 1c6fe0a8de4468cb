# A node for development that a script asks things of; to be sourced.
#
#   start_node [VARIABLE=VALUE...]   builds and starts one in $WORK, until the script ends; on
#                                    $PORT, if that is chosen already
#   install PACKAGE...               from the system's packages, or skips; they are looked for first
#   skip WHY                         ends the script well, with `skipped: WHY` as its last line
#
# Sets PORT, NODE_CA, ADMIN_TOKEN, and TOOLS: where what is fetched is kept for the next time.
# The last lines of the node's log are printed when the script fails.

WORK=$(mktemp -d "${TMPDIR:-/tmp}/pinion-admin.XXXXXX")
STARTED=()
TOOLS=${CARGO_TARGET_DIR:-$PWD/target}/tools
# Whoever calls may have one for something else.
unset PORT

finish() {
    local code=$?
    local pid
    for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
    # A node drains. One that hangs is ended: the script ends in any case.
    for pid in "${STARTED[@]}"; do
        timeout 20 tail --pid="$pid" -f /dev/null 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
    done
    if ((code != 0)) && [[ -f $WORK/node.log ]]; then tail -n 20 "$WORK/node.log" >&2; fi
    rm -rf "$WORK"
    exit "$code"
}
trap finish EXIT

skip() {
    echo "skipped: $*"
    exit 0
}

# Bounded, because a mirror that does not answer is not there.
install() {
    local sudo=()
    if (($(id -u) != 0)); then
        sudo=(sudo -n)
        sudo -n true 2>/dev/null || skip "$* are not installed, and only root can install them"
    fi
    (timeout 120 "${sudo[@]}" apt-get update -q &&
        timeout 300 "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends "$@") >"$WORK/apt.log" 2>&1 ||
        skip "cannot install $*: $(tail -n 1 "$WORK/apt.log")"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# The node answers once it has caught up with itself.
await_ready() {
    local _
    for _ in $(seq 300); do
        if python3 - "$1" "$2" <<'PY' 2>/dev/null; then return 0; fi
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
urllib.request.urlopen(f"https://127.0.0.1:{sys.argv[1]}/readyz", context=context, timeout=5)
PY
        sleep 0.1
    done
    echo "the node is not ready after 30 s" >&2
    return 1
}

start_node() {
    local pinion=${PINION:-}
    if [[ -z $pinion ]]; then
        cargo build --locked --quiet --package pinion-server
        pinion=${CARGO_TARGET_DIR:-$PWD/target}/debug/pinion
    fi
    PORT=${PORT:-$(free_port)}
    env "$@" "$pinion" serve --dev --data-dir "$WORK/data" --listen "127.0.0.1:$PORT" \
        >"$WORK/node.log" 2>&1 &
    STARTED+=($!)
    NODE_CA=$WORK/data/dev/ca.pem
    await_ready "$PORT" "$NODE_CA"
    ADMIN_TOKEN=$(cat "$WORK/data/dev/admin.token")
    export PORT NODE_CA ADMIN_TOKEN
}
