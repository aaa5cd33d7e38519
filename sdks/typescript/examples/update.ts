// Updates a container and follows it to the end:
//
//   PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… node update.js NAME

import { connect, followEvents, must } from 'plimsoll-client';

const name = process.argv[2];
const plimsoll = connect(process.env.PLIMSOLL_URL!, process.env.PLIMSOLL_TOKEN!);

const user = must(await plimsoll.GET('/auth/user'));
console.log(`signed in as ${user.username}`);

const { data: containers } = must(await plimsoll.GET('/api/v1/containers'));
const container = containers.find((one) => one.name === name);
if (!container) throw new Error(`there is no container ${name}`);
const { localValue, remoteValue } = container.updateKind;
console.log(`${container.name}: ${localValue} -> ${remoteValue}`);

// Listen first, so that nothing is missed.
const events = followEvents(plimsoll);
await events.next();

const accepted = must(
  await plimsoll.POST('/api/v1/containers/{id}/update', {
    params: { path: { id: container.id }, header: { Prefer: 'respond-async' } },
  }),
);

const path = { id: accepted.operationId };
for await (const { type, data } of events) {
  const isOurs = (data as { operationId?: string }).operationId === path.id;
  if (!(type === 'dd:update-operation-changed' && isOurs) && type !== 'dd:resync-required') continue;
  const operation = must(await plimsoll.GET('/api/v1/update-operations/{id}', { params: { path } }));
  console.log(`${operation.status}: ${operation.phase}`);
  if (operation.status === 'in-progress') continue;
  if (operation.status !== 'succeeded') throw new Error(operation.lastError ?? operation.status);
  break;
}
