#!/usr/bin/env bash
# Starts a server that speaks S3 (moto) on a port of its own and runs a command with LORAGRID_TEST_S3 naming a bucket of it: s3.sh COMMAND...
set -euo pipefail
cd "$(dirname "$0")/../.."
place=.deps/moto
[ -x $place/bin/moto_server ] || { python3 -m venv $place && $place/bin/pip install -q 'moto[s3,server]==5.2.5'; }
port=$($place/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=$(mktemp)
$place/bin/moto_server -H 127.0.0.1 -p "$port" > "$log" 2>&1 &
server=$!
trap 'kill $server; rm -f "$log"' EXIT
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=hunter2
$place/bin/python - <<'MAKE'
import boto3, botocore.config, os, time
for _ in range(100):
    try:
        config = botocore.config.Config(connect_timeout=1, retries={"max_attempts": 0}, proxies={})
        s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1", config=config)
        s3.create_bucket(Bucket="loragrid")
        break
    except botocore.exceptions.EndpointConnectionError:
        time.sleep(0.1)
else:
    raise SystemExit("the server does not start")
MAKE
LORAGRID_TEST_S3=s3://loragrid "$@"
