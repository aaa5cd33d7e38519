"""Shows what a container uses and said last, with a token of its own that is gone afterwards:

PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… python look.py NAME
"""

import os
import sys

from plimsoll_client import AuthenticatedClient
from plimsoll_client.api.containers import get_container_logs, get_container_stats, list_containers
from plimsoll_client.api.tokens import create_token, revoke_token
from plimsoll_client.models import CreateTokenRequest, Permission
from plimsoll_client.must import must

name = sys.argv[1]
url = os.environ["PLIMSOLL_URL"]
plimsoll = AuthenticatedClient(url, os.environ["PLIMSOLL_TOKEN"])

body = CreateTokenRequest(name="look", scopes=[Permission.CONTAINERS_READ])
token = must(create_token.sync_detailed(client=plimsoll, body=body))
reader = AuthenticatedClient(url, token.token)

containers = must(list_containers.sync_detailed(client=reader)).data
container = next((one for one in containers if one.name == name), None)
if container is None:
    sys.exit(f"there is no container {name}")

usage = must(get_container_stats.sync_detailed(container.id, client=reader)).data
if usage is not None:
    print(f"{usage.memory_usage_bytes} of {usage.memory_limit_bytes} bytes")
logs = must(get_container_logs.sync_detailed(container.id, client=reader, tail=1, timestamps=False))
print(logs.strip())

must(revoke_token.sync_detailed(token.id, client=plimsoll))
