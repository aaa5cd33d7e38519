"""Updates a container and follows it to the end:

PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… python update.py NAME
"""

import os
import sys

from plimsoll_client import AuthenticatedClient
from plimsoll_client.api.authentication import get_current_user
from plimsoll_client.api.containers import get_update_operation, list_containers, update_container
from plimsoll_client.events import follow_events
from plimsoll_client.must import must

name = sys.argv[1]
plimsoll = AuthenticatedClient(os.environ["PLIMSOLL_URL"], os.environ["PLIMSOLL_TOKEN"])

user = must(get_current_user.sync_detailed(client=plimsoll))
print(f"signed in as {user.username}")

containers = must(list_containers.sync_detailed(client=plimsoll)).data
container = next((one for one in containers if one.name == name), None)
if container is None:
    sys.exit(f"there is no container {name}")
print(f"{container.name}: {container.update_kind.local_value} -> {container.update_kind.remote_value}")

# Listen first, so that nothing is missed.
events = follow_events(plimsoll)
next(events)

accepted = must(update_container.sync_detailed(container.id, client=plimsoll, prefer="respond-async"))

for event in events:
    ours = event.data.get("operationId") == accepted.operation_id
    if not (event.type == "dd:update-operation-changed" and ours) and event.type != "dd:resync-required":
        continue
    operation = must(get_update_operation.sync_detailed(accepted.operation_id, client=plimsoll))
    print(f"{operation.status}: {operation.phase}")
    if operation.status == "in-progress":
        continue
    if operation.status != "succeeded":
        sys.exit(operation.last_error or operation.status)
    break
