#!/bin/sh
# Start Triton the way a hospital wants it: TLS, a key, nothing open that is not needed. Settings come as
# variables (README.md), secrets as files; further arguments go to tritonserver as they are.
# The key is never printed.
set -eu

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

one_of() { # NAME VALUE CHOICE...
    name=$1 value=$2
    shift 2
    for choice in "$@"; do
        [ "$value" = "$choice" ] && return
    done
    fail "$name is '$value', it must be one of: $*"
}

whole_number() { # NAME VALUE
    case $2 in
        '' | *[!0-9]*) fail "$1 is '$2', it must be a whole number" ;;
    esac
}

readable() { # WHAT PATH WHAT_TO_DO
    [ -r "$2" ] || fail "$1 is not there or not readable for user $(id -u): $2; $3"
}

profile=${DLILD_PROFILE:-tensorrt}
repository=${DLILD_MODEL_REPOSITORY:-/models}
tls=${DLILD_TLS:-on}
tls_folder=${DLILD_TLS_FOLDER:-/run/tls}
key=${DLILD_KEY:-on}
key_file=${DLILD_KEY_FILE:-/run/secrets/api-key}
threads=${DLILD_THREADS:-}
exit_timeout_s=${DLILD_EXIT_TIMEOUT_S:-30}
http_port=${DLILD_HTTP_PORT:-8000}
grpc_port=${DLILD_GRPC_PORT:-8001}
metrics_port=${DLILD_METRICS_PORT:-8002}

case $profile in
    '' | *[!a-z0-9_]*) fail "DLILD_PROFILE is '$profile', it must be tensorrt or onnxruntime" ;;
esac
one_of DLILD_TLS "$tls" on mutual off
case $key in
    on | off) ;;
    # What stands there may be the key itself: it is not repeated.
    *) fail "DLILD_KEY must be on or off; the key itself belongs in the file that DLILD_KEY_FILE names" ;;
esac
[ -z "$threads" ] || whole_number DLILD_THREADS "$threads"
whole_number DLILD_EXIT_TIMEOUT_S "$exit_timeout_s"
whole_number DLILD_HTTP_PORT "$http_port"
whole_number DLILD_GRPC_PORT "$grpc_port"
whole_number DLILD_METRICS_PORT "$metrics_port"

# Triton falls back to config.pbtxt in silence where a profile's file is missing. A repository in an object
# store cannot be looked into from here: `dlild doctor` compares the profile that is served.
case $repository in
    *://*) ;;
    *)
        readable "the model repository" "$repository/contract.json" "mount it at $repository, or set DLILD_MODEL_REPOSITORY"
        for folder in "$repository"/*/; do
            [ -e "${folder}config.pbtxt" ] || fail "${folder%/} is no model, and Triton takes every folder for one; remove it"
        done
        for config in "$repository"/*/config.pbtxt; do
            model=${config%/config.pbtxt}
            readable "profile $profile of model ${model##*/}" "$model/configs/$profile.pbtxt" "run 'make configs'"
        done
        # Every version that is served must be what was released: the file itself, or what the plan was built from.
        said=$(python3 -I "$repository/ild_unet/contract/weights.py" "$repository" "$profile" 2>&1) || fail "$said"
        ;;
esac

if [ "$tls" != off ]; then
    readable "the server's certificate" "$tls_folder/tls.crt" "run 'make certs', or set DLILD_TLS_FOLDER"
    readable "the certificate's key" "$tls_folder/tls.key" "run 'make certs', or set DLILD_TLS_FOLDER"
    set -- "--grpc-use-ssl=true" "--grpc-server-cert=$tls_folder/tls.crt" "--grpc-server-key=$tls_folder/tls.key" "$@"
fi
if [ "$tls" = mutual ]; then
    readable "the authority of client certificates" "$tls_folder/ca.crt" "put it there, or set DLILD_TLS=on"
    set -- "--grpc-use-ssl-mutual=true" "--grpc-root-cert=$tls_folder/ca.crt" "$@"
fi

if [ "$key" = on ]; then
    readable "the file with the API key" "$key_file" "mount it, or set DLILD_KEY_FILE"
    secret=$(cat "$key_file")
    case $secret in
        *[!A-Za-z0-9._~-]*) fail "the API key in $key_file has a character that is not a letter, digit, or one of . _ ~ -" ;;
    esac
    [ "${#secret}" -ge 24 ] || fail "the API key in $key_file has ${#secret} characters, it must have at least 24: openssl rand -hex 32"
    set -- "--grpc-restricted-protocol=inference,metadata,model-config,statistics:x-ild-key=$secret" "$@"
    secret=
fi

# OpenVINO reads the variable itself; ONNX Runtime's threads are the backend's, for all of its models.
if [ -n "$threads" ]; then
    set -- "--backend-config=onnxruntime,enable-global-threadpool=1" \
        "--backend-config=onnxruntime,intra_op_thread_count=$threads" "$@"
fi

# What no client needs is locked with a random word that is never printed. Over HTTP that is all but the health.
# The probe `ready` reads the word to have the server score a dummy box: the first scan is then as fast as the next.
lock=$(cat /proc/sys/kernel/random/uuid)
state=${DLILD_STATE_FOLDER:-/tmp}
rm -f "$state/dlild-lock" "$state/dlild-warm"
(umask 077 && printf '%s' "$lock" > "$state/dlild-lock") || fail "$state cannot be written to; mount a tmpfs there"
set -- \
    "--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:x-dlild-lock=$lock" \
    "--http-restricted-api=inference,metadata,model-config,model-repository,shared-memory,statistics,trace,logging:x-dlild-lock=$lock" \
    "$@"

printf 'dlild: profile %s, models %s, tls %s, key %s, gRPC port %s\n' \
    "$profile" "$repository" "$tls" "$key" "$grpc_port" >&2
exec tritonserver \
    "--model-repository=$repository" \
    "--model-config-name=$profile" \
    --model-control-mode=none \
    --exit-on-error=true \
    "--exit-timeout-secs=$exit_timeout_s" \
    "--grpc-address=${DLILD_GRPC_ADDRESS:-0.0.0.0}" "--grpc-port=$grpc_port" \
    "--http-address=${DLILD_HTTP_ADDRESS:-127.0.0.1}" "--http-port=$http_port" \
    "--metrics-address=${DLILD_METRICS_ADDRESS:-0.0.0.0}" "--metrics-port=$metrics_port" \
    --log-format=ISO8601 \
    "$@"
