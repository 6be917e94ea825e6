#!/usr/bin/env bash
# Public programs that import `sky`, each unmodified in an environment of its own, beside Altostratus of this tree:
#
#     bash tests/compat/clients.sh [nemo_run|zenml|oumi]…
#
# Not part of the default run: it fetches the programs with what they need (gigabytes for Oumi). It needs uv and
# hatchling; Oumi, which knows clouds only, also what tests/testbed/README.md names (root), and is left out without.
# Results are in docs/compatibility.md. KEEP=DIR keeps wheels and environments there from one run to the next.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${KEEP:-$(mktemp -d /tmp/sky-clients-XXXXXX)}
python=${PYTHON:-python3}
mkdir -p "$work"

fail() { echo "$*" >&2; exit 1; }
command -v uv >/dev/null || fail "uv is not on PATH"
rm -rf "$work/wheels"
uv build -q --wheel -o "$work/wheels" "$root" || fail "the wheel cannot be built"
uv build -q --wheel -o "$work/wheels" "$root/integrations/skypilot-compat" || fail "the wheel of the name cannot be built"

environment() {  # NAME REQUIREMENT…: an environment with our wheels and these
    local name=$1
    shift
    [ -x "$work/$name/bin/python" ] || uv venv -q -p "$python" "$work/$name" || return 1
    uv pip install -q -p "$work/$name" --reinstall-package altostratus --reinstall-package skypilot \
        "$work"/wheels/*.whl "$@"
}

run() {  # NAME COMMAND…: in a home of its own, and nothing of it left
    local name=$1 home code
    shift
    home=$(mktemp -d /tmp/sky-c-XXXX)
    (
        cd "$home" || exit 1
        for word in ${!SKY*}; do unset "$word"; done
        unset PYTHONPATH
        export HOME=$home SKY_STATE_DIR=$home/s PATH=$work/$name/bin:$PATH
        timeout 900 "$@"
        code=$?
        "$work/$name/bin/sky" down -a -y >/dev/null 2>&1
        "$work/$name/bin/sky" api stop >/dev/null 2>&1
        exit $code
    )
    code=$?
    rm -rf "$home"
    case $code in
        0) echo "== $name: fine" ;;
        77) echo "== $name: not run" ;;
        *) echo "== $name: FAILED ($code)"; bad=1 ;;
    esac
}

bad=0
for client in "${@:-nemo_run zenml oumi}"; do
    for name in $client; do
        case $name in
            nemo_run)
                # Newer releases of leptonai are without a module that NeMo-Run imports; older ones pin what it does not.
                environment nemo_run 'nemo_run[skypilot]==0.11.1' &&
                    uv pip check -q -p "$work/nemo_run" &&
                    uv pip install -q -p "$work/nemo_run" --no-deps 'leptonai==0.26.6' &&
                    uv pip install -q -p "$work/nemo_run" loguru cloudpickle prometheus-fastapi-instrumentator pillow \
                        huggingface_hub httpx python-multipart &&
                    run nemo_run "$work/nemo_run/bin/python" "$here/clients/nemo_run_main_path.py" || bad=1
                ;;
            zenml)
                environment zenml 'zenml==0.98.0' &&
                    run zenml "$work/zenml/bin/python" "$here/clients/zenml_main_path.py" || bad=1
                ;;
            oumi)
                environment oumi 'oumi==0.9' botocore asyncssh cryptography &&
                    run oumi "${BEDS:-$(command -v python3)}" "$here/clients/with_aws.py" "$work/oumi/bin/python" \
                        "$here/clients/oumi_main_path.py" || bad=1
                ;;
            *) fail "unknown client $name; there are nemo_run, zenml and oumi" ;;
        esac
    done
done
[ -n "${KEEP:-}" ] || rm -rf "$work"
exit $bad
